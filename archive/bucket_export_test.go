// SPDX-License-Identifier: Apache-2.0

package archive

// OpenBucketPatiently is OpenPlace with another patience.
var OpenBucketPatiently = openBucketPatiently
