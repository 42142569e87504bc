// Command clients runs named scenarios of a Go driver against TARGET_DSN.
//
// usage: TARGET_DSN=postgresql://… [TARGET_CLIENTS=100] clients pgx|pgxpool|pq|console
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"
)

type target struct {
	dsn     string
	run     string // part of every table's name
	clients int    // how many connect at once
}

// with returns the DSN with one more parameter.
func (t target) with(name, value string) string {
	dsn, _ := url.Parse(t.dsn)
	query := dsn.Query()
	query.Set(name, value)
	dsn.RawQuery = query.Encode()
	return dsn.String()
}

func readTarget() (target, error) {
	t := target{clients: 100, run: fmt.Sprintf("%d_%s", os.Getpid(), strconv.FormatInt(time.Now().UnixMilli(), 36))}
	dsn, err := url.Parse(os.Getenv("TARGET_DSN"))
	if err != nil || dsn.Host == "" {
		return t, fmt.Errorf("TARGET_DSN is not a postgresql:// address")
	}
	t.dsn = dsn.String()
	if !dsn.Query().Has("sslmode") {
		t.dsn = t.with("sslmode", "disable")
	}
	if clients := os.Getenv("TARGET_CLIENTS"); clients != "" {
		t.clients, err = strconv.Atoi(clients)
	}
	return t, err
}

func main() {
	programs := map[string]func(target) []scenario{
		"pgx":     pgxScenarios,
		"pgxpool": pgxpoolScenarios,
		"pq":      pqScenarios,
		"console": consoleScenarios,
	}
	if len(os.Args) != 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: TARGET_DSN=postgresql://… clients pgx|pgxpool|pq|console")
		os.Exit(2)
	}
	t, err := readTarget()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !runAll(context.Background(), os.Args[1], programs[os.Args[1]](t)) {
		os.Exit(1)
	}
}
