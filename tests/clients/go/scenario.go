package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

const (
	scenarioLimit = 30 * time.Second
	statements    = 300 // more than a pooler keeps per server
	bigValue      = 20_000_000
)

// A scenario panics with an error (see must) when it fails.
type scenario struct {
	name string
	run  func(ctx context.Context) string
}

type report struct {
	Driver   string `json:"driver"`
	Scenario string `json:"scenario"`
	OK       bool   `json:"ok"`
	Detail   string `json:"detail"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

func check(condition bool, format string, arguments ...any) {
	if !condition {
		panic(fmt.Errorf(format, arguments...))
	}
}

func same(actual, expected any, what string) {
	check(reflect.DeepEqual(actual, expected), "%s: got %.200v, expected %.200v", what, actual, expected)
}

func sqlstate(err error) string {
	var pgxError *pgconn.PgError
	var pqError *pq.Error
	switch {
	case errors.As(err, &pgxError):
		return pgxError.Code
	case errors.As(err, &pqError):
		return string(pqError.Code)
	default:
		return ""
	}
}

func fails(err error, code, what string) {
	check(err != nil, "%s: no error, expected %s", what, code)
	check(sqlstate(err) == code, "%s: %v, expected %s", what, err, code)
}

// until waits for a condition, 10 s at most.
func until(condition func() bool, what string) {
	for attempt := 0; attempt < 1000; attempt++ {
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	panic(fmt.Errorf("waited 10 s in vain: %s", what))
}

// together runs work(0) to work(count-1) side by side and panics with the first failure.
func together(count int, work func(id int)) {
	failures := make(chan error, count)
	for id := range count {
		go func() { failures <- guarded(func() { work(id) }) }()
	}
	for range count {
		must(<-failures)
	}
}

// barrier returns a function that returns once count callers wait in it.
func barrier(count int) func() {
	var ready sync.WaitGroup
	ready.Add(count)
	return func() {
		ready.Done()
		ready.Wait()
	}
}

func guarded(work func()) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	work()
	return nil
}

func outcome(ctx context.Context, s scenario) (detail string, err error) {
	ctx, stop := context.WithTimeout(ctx, scenarioLimit)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- guarded(func() { detail = s.run(ctx) }) }()
	select {
	case err = <-done:
		return detail, err
	case <-time.After(scenarioLimit + time.Second):
		return "", fmt.Errorf("not finished after %v", scenarioLimit)
	}
}

func runAll(ctx context.Context, driver string, scenarios []scenario) bool {
	passed := true
	lines := json.NewEncoder(os.Stdout)
	for _, s := range scenarios {
		detail, err := outcome(ctx, s)
		if err != nil {
			detail, passed = strings.TrimSpace(err.Error()), false
		}
		must(lines.Encode(report{driver, s.name, err == nil, detail}))
	}
	return passed
}
