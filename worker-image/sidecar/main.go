// Command longtask-sidecar reports for a task whose image only writes lines to a file.
//
// It runs beside the task as a native sidecar with a hundredth of a CPU and 32 MiB. SIGTERM
// comes when the task has ended; then it reports once more, leaves its last line in its
// termination message and exits 0. Nothing that the file or the operator does ends it earlier.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	reportTimeout     = 5 * time.Second
	lastReportTimeout = 2 * time.Second
	terminationLog    = "/dev/termination-log"
)

func main() {
	os.Exit(run())
}

func run() int {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	path := os.Getenv("LONGTASK_PROGRESS_FILE")
	sender, err := newSender(os.Getenv("LONGTASK_REPORT_URL"), os.Getenv("LONGTASK_TOKEN_FILE"), os.Getenv("LONGTASK_CA_FILE"))
	if err != nil || path == "" {
		note("LONGTASK_PROGRESS_FILE, _REPORT_URL, _TOKEN_FILE and _CA_FILE must be set, the URL with https: %v", err)
		return 2
	}
	file := &progressFile{path: path}
	reportUntil(ended, file, sender)
	file.refresh(true)
	leaveLastLine(file.line)
	last, cancel := context.WithTimeout(context.Background(), lastReportTimeout)
	defer cancel()
	sender.send(last, file.progress)
	return 0
}

// reportUntil reports at the operator's pace until ended; a report under way is then given up.
func reportUntil(ended context.Context, file *progressFile, sender *sender) {
	pace := newPace()
	for ended.Err() == nil {
		file.refresh(false)
		one, cancel := context.WithTimeout(ended, reportTimeout)
		answer := sender.send(one, file.progress)
		cancel()
		if answer.stop {
			// A superseded attempt has nothing more to say; the operator deletes its pod.
			<-ended.Done()
			return
		}
		select {
		case <-ended.Done():
		case <-time.After(pace.waitAfter(answer)):
		}
	}
}

func leaveLastLine(line string) {
	path := os.Getenv("LONGTASK_TERMINATION_LOG")
	if path == "" {
		path = terminationLog
	}
	if err := os.WriteFile(path, []byte(line), 0o644); err != nil {
		note("the termination message cannot be written: %v", err)
	}
}

func note(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "longtask: "+format+"\n", values...)
}
