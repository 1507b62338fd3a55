package main

import (
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// tailBytes is how much of the end of the file is read; a longer line is not seen. It fits the termination message.
const tailBytes = 4096

var progressLine = regexp.MustCompile(`^\s*([0-9]{1,18})\s*/\s*([0-9]{1,18})(?:\s+(.*?))?\s*$`)

// progress is what one line `done/total message` says.
type progress struct {
	Done    *int64 `json:"done,omitempty"`
	Total   *int64 `json:"total,omitempty"`
	Message string `json:"message,omitempty"`
}

// progressFile holds the last good line of a file that somebody else's program writes. So everything is
// expected of it: missing, empty for an instant, cut, growing without end, garbage, half a line, no file at
// all. None of it is an error; the last good line stays valid.
type progressFile struct {
	path     string
	line     string
	progress progress
}

// refresh looks at the file again. When its writer has ended, a last line without line feed counts too.
func (f *progressFile) refresh(ended bool) {
	lines := completeLines(readTail(f.path))(ended)
	for i := len(lines) - 1; i >= 0; i-- {
		if said, ok := parseLine(lines[i]); ok {
			f.line, f.progress = strings.TrimSpace(lines[i]), said
			return
		}
	}
}

func parseLine(line string) (progress, bool) {
	found := progressLine.FindStringSubmatch(line)
	if found == nil {
		return progress{}, false
	}
	done, _ := strconv.ParseInt(found[1], 10, 64)
	total, _ := strconv.ParseInt(found[2], 10, 64)
	return progress{Done: &done, Total: &total, Message: cut(found[3], maxMessage)}, true
}

// completeLines returns the whole lines of a tail that may begin and end inside one.
func completeLines(tail []byte, beginsInside bool) func(ended bool) []string {
	return func(ended bool) []string {
		lines := strings.Split(strings.ToValidUTF8(string(tail), "\uFFFD"), "\n")
		if !ended {
			lines = lines[:len(lines)-1] // still being written
		}
		if beginsInside && len(lines) > 0 {
			lines = lines[1:]
		}
		return lines
	}
}

// readTail returns the end of the file and whether something stands before it; nothing if it is no regular file.
func readTail(path string) (tail []byte, beginsInside bool) {
	// Not blocking and no links: a task that puts a pipe or a link there must not hold or mislead us.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	offset := max(info.Size()-tailBytes, 0)
	tail, _ = io.ReadAll(io.NewSectionReader(file, offset, tailBytes))
	return tail, offset > 0
}
