package main

import (
	"math"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	defaultSeconds = 5.0
	minSeconds     = 1.0
	maxSeconds     = 3600.0
	longestBackoff = 30.0
)

// pace is the rhythm of reports, the same as the SDK's: the operator says the interval; after a report that
// was not taken the wait doubles, but stays short, so that a restarted operator hears of all attempts soon.
type pace struct {
	interval float64
	failures int
	jitter   func() float64
}

func newPace() *pace {
	return &pace{interval: defaultSeconds, jitter: rand.Float64}
}

func (p *pace) waitAfter(got answer) time.Duration {
	if got.status == http.StatusOK {
		p.failures = 0
		if got.next > 0 {
			p.interval = math.Min(math.Max(got.next, minSeconds), maxSeconds)
		}
		return seconds(p.interval * (1 + p.jitter()/10))
	}
	p.failures++
	backoff := math.Min(minSeconds*math.Pow(2, float64(min(p.failures-1, 10))), math.Max(longestBackoff, p.interval))
	asked := math.Min(math.Max(got.retryAfter, 0), maxSeconds)
	return seconds(math.Max(backoff, asked) * (1 + p.jitter()/2))
}

func seconds(value float64) time.Duration {
	return time.Duration(value * float64(time.Second))
}
