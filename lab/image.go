// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
)

// Image is the one image every engine of a lab has: busybox. A container that
// is given no command does nothing until it is stopped; any container is
// stopped by SIGKILL, so that stopping takes no time.
const Image = "busybox"

// busyboxImage is the image as a stream for docker load, made once.
var busyboxImage = sync.OnceValues(func() ([]byte, error) {
	layer, err := busyboxLayer()
	if err != nil {
		return nil, errors.Wrap(err, "make the image")
	}
	type object map[string]any
	config, err := json.Marshal(object{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config": object{
			"Cmd":        []string{"sleep", "2147483647"},
			"Env":        []string{"PATH=/bin"},
			"StopSignal": "SIGKILL",
		},
		"rootfs": object{
			"type":     "layers",
			"diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))},
		},
	})
	if err != nil {
		return nil, errors.Wrap(err, "make the image")
	}
	manifest, err := json.Marshal([]object{{
		"Config":   "config.json",
		"RepoTags": []string{Image + ":latest"},
		"Layers":   []string{"layer.tar"},
	}})
	if err != nil {
		return nil, errors.Wrap(err, "make the image")
	}
	var a archive
	a.file("config.json", 0o644, config)
	a.file("layer.tar", 0o644, layer)
	a.file("manifest.json", 0o644, manifest)
	return a.bytes()
})

// busyboxLayer is a root directory with busybox and a link to it for each of
// its commands.
func busyboxLayer() ([]byte, error) {
	busybox, err := staticBusybox()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, errors.Wrap(err, "read busybox")
	}
	list, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, errors.Wrap(err, "ask busybox for its commands")
	}
	var a archive
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"} {
		a.add(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}, nil)
	}
	a.file("bin/busybox", 0o755, program)
	for command := range strings.FieldsSeq(string(list)) {
		if command != "busybox" {
			a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: path.Join("bin", command), Linkname: "busybox"}, nil)
		}
	}
	return a.bytes()
}

// archive is a tar stream in the making; the first error stays.
type archive struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func (a *archive) file(name string, mode int64, content []byte) {
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, content)
}

func (a *archive) add(h tar.Header, content []byte) {
	if a.w == nil {
		a.w = tar.NewWriter(&a.buf)
	}
	if a.err == nil {
		a.err = a.w.WriteHeader(&h)
	}
	if a.err == nil {
		_, a.err = a.w.Write(content)
	}
}

func (a *archive) bytes() ([]byte, error) {
	return a.buf.Bytes(), errors.Wrap(errors.CombineErrors(a.err, a.w.Close()), "write a tar stream")
}
