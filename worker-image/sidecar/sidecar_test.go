package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestLines(t *testing.T) {
	cases := map[string]struct {
		content string
		ended   bool
		want    string
	}{
		"last good line wins":              {content: "1/10 one\n2/10 two\n", want: "2/10 two"},
		"garbage after it does not matter": {content: "3/10 three\nhello\n-1/10\n1.5/2\n/\n", want: "3/10 three"},
		"half a line waits":                {content: "4/100 four\n5/10", want: "4/100 four"},
		"half a line counts at the end":    {content: "4/100 four\n5/10", ended: true, want: "5/10"},
		"spaces and CRLF":                  {content: "  6 / 10\tsix \r\n", want: "6 / 10\tsix"},
		"no message":                       {content: "7/10\n", want: "7/10"},
		"too many digits":                  {content: "8/10\n9999999999999999999/1\n", want: "8/10"},
		"invalid UTF-8":                    {content: "9/10 \xff\xfe\n", want: "9/10 \uFFFD"},
		"only the tail of a huge file":     {content: strings.Repeat("1/10 x\n", 200_000) + "10/10 z\n", want: "10/10 z"},
		"a tail inside a line is no line":  {content: strings.Repeat("1", 2*tailBytes) + "/2\n", want: ""},
		"a line longer than the tail":      {content: "1/2\n" + strings.Repeat("x", 2*tailBytes), ended: true, want: ""},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "progress")
			if err := os.WriteFile(path, []byte(one.content), 0o600); err != nil {
				t.Fatal(err)
			}
			file := progressFile{path: path}
			file.refresh(one.ended)
			if file.line != one.want {
				t.Errorf("got %q, want %q", file.line, one.want)
			}
		})
	}
}

func TestLastGoodLineStaysWhenTheFileIsCutOrGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "progress")
	file := progressFile{path: path}
	for _, content := range []string{"5/10 five\n", "", "nonsense\n"} {
		_ = os.WriteFile(path, []byte(content), 0o600)
		file.refresh(false)
		if *file.progress.Done != 5 || *file.progress.Total != 10 || file.progress.Message != "five" {
			t.Errorf("after %q: %+v", content, file.progress)
		}
	}
	_ = os.Remove(path)
	file.refresh(true)
	if file.line != "5/10 five" {
		t.Errorf("after removal: %q", file.line)
	}
}

func TestPipesAndLinksAreNotRead(t *testing.T) {
	directory := t.TempDir()
	target, link, pipe := filepath.Join(directory, "t"), filepath.Join(directory, "l"), filepath.Join(directory, "p")
	_ = os.WriteFile(target, []byte("1/2\n"), 0o600)
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, directory} {
		file := progressFile{path: path}
		file.refresh(true) // a blocking open of the pipe would hang here
		if file.line != "" {
			t.Errorf("%s was read: %q", path, file.line)
		}
	}
}

func TestMessageIsCutByCharacters(t *testing.T) {
	said, _ := parseLine("1/2 " + strings.Repeat("é", 2000))
	if got := len([]rune(said.Message)); got != maxMessage {
		t.Errorf("%d characters", got)
	}
}

func TestPace(t *testing.T) {
	p := pace{interval: 5, jitter: func() float64 { return 0 }}
	steps := []struct {
		got  answer
		want float64
	}{
		{answer{status: 200}, 5},
		{answer{status: 200, next: 20}, 20},
		{answer{}, 1},
		{answer{status: 500}, 2},
		{answer{status: 503, retryAfter: 15}, 15},
		{answer{status: 503, retryAfter: 1e9}, 3600},
		{answer{}, 16},
		{answer{}, 30},
		{answer{status: 200, next: 0.001}, 1},
		{answer{}, 1},
	}
	for i, step := range steps {
		if got := p.waitAfter(step.got).Seconds(); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

func TestOnlyHTTPSIsReportedTo(t *testing.T) {
	for _, address := range []string{"", "http://x/y", "https://", "::"} {
		if _, err := newSender(address, "token", "ca"); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
}
