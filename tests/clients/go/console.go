package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The Prometheus exporter for PgBouncer (prometheus-community/pgbouncer_exporter) reads the console
// through database/sql and lib/pq, every column into an any: a label must arrive as text, a number
// or NULL, a metric as something that reads as a number.
type shown struct{ labels, metrics []string }

var exported = map[string]shown{
	"databases": {
		[]string{"name", "host", "port", "database", "force_user", "pool_mode"},
		[]string{"pool_size", "max_connections", "current_connections", "paused", "disabled"},
	},
	"stats_totals": {
		[]string{"database"},
		[]string{
			"query_count", "query_time", "bytes_received", "bytes_sent", "wait_time", "xact_count", "xact_time",
			"client_parse_count", "server_parse_count", "bind_count", "server_assignment_count",
		},
	},
	"pools": {
		[]string{"database", "user"},
		[]string{
			"cl_active", "cl_active_cancel_req", "cl_waiting", "cl_waiting_cancel_req", "sv_active",
			"sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait",
		},
	},
}

var (
	exportedLists = []string{
		"databases", "users", "pools", "free_clients", "used_clients", "login_clients", "free_servers",
		"used_servers", "dns_names", "dns_zones", "dns_queries",
	}
	exportedConfig = []string{"max_client_conn", "max_user_connections"}
)

type consoleRun struct{ target }

func consoleScenarios(t target) []scenario {
	r := consoleRun{t}
	return []scenario{
		{"ping", r.ping},
		{"tables", r.tables},
		{"lists", r.lists},
		{"config", r.config},
		{"version", r.version},
	}
}

// open pings as the exporter does: its answer is left unread while the next questions are asked.
func (r consoleRun) open(ctx context.Context, use func(*sql.DB)) {
	db := got(sql.Open("postgres", r.dsn))
	defer db.Close()
	unread := got(db.QueryContext(ctx, "SHOW STATS"))
	defer unread.Close()
	use(db)
}

// rows returns the columns and every value as the driver gives it.
func consoleRows(ctx context.Context, db *sql.DB, text string) ([]string, [][]any) {
	rows := got(db.QueryContext(ctx, text))
	defer rows.Close()
	columns := got(rows.Columns())
	var all [][]any
	for rows.Next() {
		values, places := make([]any, len(columns)), make([]any, len(columns))
		for n := range values {
			places[n] = &values[n]
		}
		must(rows.Scan(places...))
		all = append(all, values)
	}
	must(rows.Err())
	return columns, all
}

func checkLabel(value any, where string) {
	switch text := value.(type) {
	case int64, nil:
	case string:
		check(utf8.ValidString(text), "%s is no UTF-8: %q", where, text)
	default:
		check(false, "%s cannot be a label: %T", where, value)
	}
}

func checkMetric(value any, where string) {
	switch number := value.(type) {
	case int64, float64:
	case []byte:
		_, err := strconv.ParseFloat(string(number), 64)
		check(err == nil, "%s is no number: %q", where, number)
	default:
		check(false, "%s cannot be a metric: %T", where, value)
	}
}

func (r consoleRun) ping(ctx context.Context) string {
	r.open(ctx, func(db *sql.DB) { must(db.PingContext(ctx)) })
	return ""
}

func (r consoleRun) tables(ctx context.Context) (detail string) {
	r.open(ctx, func(db *sql.DB) {
		for name, wanted := range exported {
			columns, rows := consoleRows(ctx, db, fmt.Sprintf("SHOW %s;", name))
			check(len(rows) > 0, "SHOW %s: no rows", name)
			for _, row := range rows {
				checkColumns(columns, row, wanted.labels, name, checkLabel)
				checkColumns(columns, row, wanted.metrics, name, checkMetric)
			}
			detail += fmt.Sprintf("%s: %d rows; ", name, len(rows))
		}
	})
	return detail
}

func checkColumns(columns []string, row []any, wanted []string, table string, right func(any, string)) {
	for _, name := range wanted {
		at := slices.Index(columns, name)
		check(at >= 0, "SHOW %s has no %s", table, name)
		right(row[at], table+"."+name)
	}
}

// keyed checks that each key is there, with a number beside it.
func keyed(rows [][]any, wanted []string) {
	found := map[string]any{}
	for _, row := range rows {
		found[row[0].(string)] = row[1]
	}
	for _, key := range wanted {
		value, there := found[key]
		check(there, "no row for %s", key)
		if text, is := value.(string); is {
			value = []byte(text)
		}
		checkMetric(value, key)
	}
}

func (r consoleRun) lists(ctx context.Context) string {
	r.open(ctx, func(db *sql.DB) {
		columns, rows := consoleRows(ctx, db, "SHOW LISTS;")
		same(columns, []string{"list", "items"}, "columns")
		keyed(rows, exportedLists)
	})
	return ""
}

func (r consoleRun) config(ctx context.Context) string {
	r.open(ctx, func(db *sql.DB) {
		columns, rows := consoleRows(ctx, db, "SHOW CONFIG;")
		same(columns, []string{"key", "value", "default", "changeable"}, "columns")
		keyed(rows, exportedConfig)
	})
	return ""
}

func (r consoleRun) version(ctx context.Context) (version string) {
	r.open(ctx, func(db *sql.DB) {
		version = scanned[string](db.QueryRowContext(ctx, "SHOW VERSION;"))
	})
	return version
}
