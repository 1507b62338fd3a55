package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	maxMessage = 1024
	maxAnswer  = 65536
)

// answer is what the operator said to a report; the zero value is silence.
type answer struct {
	status     int
	stop       bool
	next       float64
	retryAfter float64
}

// sender sends reports, each over a connection of its own: thousands of idle ones would cost the operator
// its memory. Token and CA are read again each time, because both rotate.
type sender struct {
	url, tokenFile, caFile string
	// sequence starts at the Unix time in seconds, so that it rises also when the sidecar is restarted.
	sequence int64
	state    string
}

func newSender(address, tokenFile, caFile string) (*sender, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if parsed.Scheme != "https" || parsed.Host == "" || tokenFile == "" || caFile == "" {
		return nil, errors.New("nowhere to report to")
	}
	return &sender{url: address, tokenFile: tokenFile, caFile: caFile, sequence: time.Now().Unix(), state: "ok"}, nil
}

// send sends one report and returns the answer; what goes wrong is noted once, not returned.
func (s *sender) send(ctx context.Context, said progress) answer {
	s.sequence++
	body, _ := json.Marshal(struct {
		Sequence int64 `json:"sequence"`
		progress
	}{s.sequence, said})
	got, err := s.post(ctx, body)
	switch {
	case errors.Is(err, context.Canceled): // the task ended meanwhile; one more report follows
	case err != nil:
		s.noteChange("silent", fmt.Sprintf("report not delivered: %v", err))
	case got.status != http.StatusOK:
		s.noteChange(strconv.Itoa(got.status), fmt.Sprintf("report not taken: HTTP %d", got.status))
	default:
		s.noteChange("ok", "reports are taken again")
	}
	return got
}

func (s *sender) post(ctx context.Context, body []byte) (answer, error) {
	request, err := s.request(ctx, body)
	if err != nil {
		return answer{}, err
	}
	authorities, err := os.ReadFile(s.caFile)
	if err != nil {
		return answer{}, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authorities)
	client := http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
		// The token must not follow a redirect.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	return readAnswer(response), nil
}

func (s *sender) request(ctx context.Context, body []byte) (*http.Request, error) {
	token, err := os.ReadFile(s.tokenFile)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// readAnswer takes what is malformed as not said.
func readAnswer(response *http.Response) answer {
	var fields struct {
		Stop bool    `json:"stop"`
		Next float64 `json:"nextReportSeconds"`
	}
	got := answer{status: response.StatusCode}
	got.retryAfter, _ = strconv.ParseFloat(response.Header.Get("Retry-After"), 64)
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil || json.Unmarshal(body, &fields) != nil {
		return got
	}
	got.stop = fields.Stop && got.status == http.StatusConflict
	if got.status == http.StatusOK {
		got.next = fields.Next
	}
	return got
}

func (s *sender) noteChange(state, text string) {
	if state != s.state {
		s.state = state
		note("%s", text)
	}
}

// cut returns the first runes of text.
func cut(text string, runes int) string {
	if all := []rune(text); len(all) > runes {
		return string(all[:runes])
	}
	return text
}
