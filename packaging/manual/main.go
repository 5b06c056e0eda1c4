// SPDX-License-Identifier: Apache-2.0

// Command manual writes the man pages: one for the program, and one for each
// command. It makes them of what the program itself says in its help, so that the
// two cannot differ.
//
//	go run ./packaging/manual bin/ipamlog dist/man
//
// SOURCE_DATE_EPOCH is the date on the pages, in seconds since 1970; without it
// they have none, so that the same program makes the same pages.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
)

const name = "ipamlog"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manual PROGRAM DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

// write asks the program for its commands and their help, and writes the pages.
func write(program, dir string) error {
	date := ""
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return errors.Wrap(err, "read SOURCE_DATE_EPOCH")
		}
		date = time.Unix(seconds, 0).UTC().Format(time.DateOnly)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errors.Wrap(err, "make the directory of the man pages")
	}
	// What the shell is told for completion: a line each, the name and what it does.
	list, err := say(program, "__complete", "help", "")
	if err != nil {
		return err
	}
	pages := []page{{title: name, short: "Docker addresses, remembered for ever"}}
	for line := range strings.Lines(list) {
		if command, short, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			pages = append(pages, page{title: name + "-" + command, command: command, short: short})
		}
	}
	for _, p := range pages {
		help, err := say(program, p.help()...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, p.title+".1"), []byte(p.roff(help, date, pages)), 0o644); err != nil {
			return errors.Wrap(err, "write a man page")
		}
	}
	return nil
}

// say runs the program in surroundings in which its defaults are those of root.
func say(program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=/root"}
	out, err := cmd.Output()
	return string(out), errors.Wrapf(err, "run %s %s", program, strings.Join(args, " "))
}

// page is one man page.
type page struct {
	title   string
	command string // empty: the program itself
	short   string
}

// help are the arguments with which the program explains the command.
func (p page) help() []string {
	if p.command == "" {
		return []string{"help"}
	}
	return []string{"help", p.command}
}

// roff returns the page, made of the command's help.
func (p page) roff(help, date string, all []page) string {
	var out strings.Builder
	fmt.Fprintf(&out, ".TH %s 1 %q %q\n.SH NAME\n%s \\- %s\n", strings.ToUpper(p.title), date, name, escape(p.title), escape(p.short))
	about, rest, _ := strings.Cut(help, "\nUsage:\n")
	sections := map[string]string{}
	title, body := "Usage", ""
	var extra []string // the groups of commands, in their order
	for line := range strings.Lines(rest) {
		if line[0] != ' ' && strings.HasSuffix(line, ":\n") {
			sections[title], body = body, ""
			title = strings.TrimSuffix(line, ":\n")
			if isCommands(title) {
				extra = append(extra, title)
			}
			continue
		}
		body += line
	}
	sections[title] = body
	out.WriteString(".SH SYNOPSIS\n" + literal(sections["Usage"]))
	out.WriteString(".SH DESCRIPTION\n" + prose(about))
	for _, title := range extra {
		out.WriteString(".SH " + strings.ToUpper(escape(title)) + "\n" + entries(sections[title]))
	}
	for _, part := range []struct{ section, heading string }{{"Flags", "OPTIONS"}, {"Global Flags", "OPTIONS OF ALL COMMANDS"}} {
		if text := sections[part.section]; text != "" {
			out.WriteString(".SH " + part.heading + "\n" + entries(text))
		}
	}
	if text := sections["Examples"]; text != "" {
		out.WriteString(".SH EXAMPLES\n" + literal(text))
	}
	out.WriteString(".SH FILES\n.TP\n.I /etc/ipamlog/config.yaml\nThe options, by their names.\n.TP\n.I /var/lib/ipamlog\nThe embedded etcd, the release spool, the remembered store and the index.\n")
	out.WriteString(".SH SEE ALSO\n")
	for i, other := range all {
		if other.title == p.title {
			continue
		}
		comma := ","
		if i == len(all)-1 || i == len(all)-2 && all[len(all)-1].title == p.title {
			comma = ""
		}
		fmt.Fprintf(&out, ".BR %s (1)%s\n", escape(other.title), comma)
	}
	return out.String()
}

// isCommands says whether a section of the program's help lists commands.
func isCommands(title string) bool {
	switch title {
	case "Usage", "Flags", "Global Flags", "Examples", "Aliases":
		return false
	}
	return true
}

// prose is text that may be filled; what is indented is kept as it is.
func prose(text string) string {
	var out strings.Builder
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString(".PP\n")
		}
		if strings.HasPrefix(paragraph, " ") {
			out.WriteString(literal(paragraph))
			continue
		}
		for line := range strings.Lines(paragraph + "\n") {
			out.WriteString(escape(line))
		}
	}
	return out.String()
}

// literal is text whose lines stay.
func literal(text string) string {
	var out strings.Builder
	out.WriteString(".nf\n")
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		if strings.HasPrefix(line, "Use \"") {
			continue // cobra's hint at --help
		}
		out.WriteString(escape(strings.TrimPrefix(line, "  ")))
	}
	return out.String() + ".fi\n"
}

// entries are lines of two columns: an option or command, and what it does.
func entries(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			// A name as long as its column has one space behind it.
			left, right, ok = strings.Cut(left, " ")
		}
		if ok && !strings.HasPrefix(left, "Use") {
			out.WriteString(".TP\n.B " + escape(left) + "\n" + escape(strings.TrimSpace(right)) + "\n")
		}
	}
	return out.String()
}

// escape keeps roff from reading text as its own words.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
