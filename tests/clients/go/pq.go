package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lib/pq"
)

type pqRun struct{ target }

// sqlQuerier is a connection, a pool or a transaction of database/sql.
type sqlQuerier interface {
	ExecContext(ctx context.Context, text string, arguments ...any) (sql.Result, error)
	QueryContext(ctx context.Context, text string, arguments ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, text string, arguments ...any) *sql.Row
	PrepareContext(ctx context.Context, text string) (*sql.Stmt, error)
}

func pqScenarios(t target) []scenario {
	r := pqRun{t}
	return []scenario{
		{"connect", r.connect},
		{"simple_query", r.simpleQuery},
		{"transactions", r.transactions},
		{"prepared", r.prepared},
		{"prepared_same_name", r.preparedSameName},
		{"prepared_failed", r.preparedFailed},
		{"types", r.types},
		{"big_results", r.bigResults},
		{"copy", r.copy},
		{"cancel", r.cancel},
		{"errors", r.errors},
		{"binary_parameters", r.binaryParameters},
		{"pooled", r.pooled},
		{"hundred_at_once", r.hundredAtOnce},
	}
}

func (r pqRun) open(dsn string, size int, use func(*sql.DB)) {
	db := got(sql.Open("postgres", dsn))
	defer db.Close()
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	use(db)
}

func (r pqRun) withTable(ctx context.Context, size int, what, columns string, use func(*sql.DB, string)) {
	r.open(r.dsn, size, func(db *sql.DB) {
		table := fmt.Sprintf("fc_pq_%s_%s", r.run, what)
		sqlExec(ctx, db, fmt.Sprintf("create table %s (%s)", table, columns))
		defer db.ExecContext(context.Background(), "drop table "+table)
		use(db, table)
	})
}

func sqlExec(ctx context.Context, on sqlQuerier, text string, arguments ...any) {
	got(on.ExecContext(ctx, text, arguments...))
}

func sqlValue[T any](ctx context.Context, on sqlQuerier, text string, arguments ...any) T {
	return scanned[T](on.QueryRowContext(ctx, text, arguments...))
}

func scanned[T any](row *sql.Row) (value T) {
	must(row.Scan(&value))
	return value
}

func sqlFailure(ctx context.Context, on sqlQuerier, text string, arguments ...any) error {
	_, err := on.ExecContext(ctx, text, arguments...)
	return err
}

func (r pqRun) connect(ctx context.Context) (detail string) {
	r.open(r.with("application_name", "fc_"+r.run), 1, func(db *sql.DB) {
		must(db.PingContext(ctx))
		same(sqlValue[string](ctx, db, "show application_name"), "fc_"+r.run, "application_name")
		check(strings.HasPrefix(sqlValue[string](ctx, db, "show datestyle"), "ISO"), "datestyle")
		check(strings.HasPrefix(sqlValue[string](ctx, db, "select version()"), "PostgreSQL"), "version()")
		detail = "server_version " + sqlValue[string](ctx, db, "show server_version")
	})
	return detail
}

func (r pqRun) simpleQuery(ctx context.Context) string {
	r.open(r.dsn, 1, func(db *sql.DB) {
		rows := got(db.QueryContext(ctx, "select 1::text; select 'zwei'; select 3::text"))
		defer rows.Close()
		var values []string
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				text := ""
				must(rows.Scan(&text))
				values = append(values, text)
			}
		}
		must(rows.Err())
		same(values, []string{"1", "zwei", "3"}, "statements")
	})
	return ""
}

func (r pqRun) transactions(ctx context.Context) string {
	r.withTable(ctx, 1, "tx", "n int", func(db *sql.DB, table string) {
		insert := func(on sqlQuerier, n int) { sqlExec(ctx, on, "insert into "+table+" values ($1)", n) }
		tx := got(db.BeginTx(ctx, nil))
		insert(tx, 1)
		must(tx.Commit())
		tx = got(db.BeginTx(ctx, nil))
		insert(tx, 2)
		must(tx.Rollback())
		tx = got(db.BeginTx(ctx, nil))
		insert(tx, 3)
		fails(sqlFailure(ctx, tx, "select nonsense"), "42703", "unknown column")
		fails(sqlFailure(ctx, tx, "select 1"), "25P02", "in a failed transaction")
		must(tx.Rollback())
		tx = got(db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable}))
		insert(tx, 4)
		sqlExec(ctx, tx, "savepoint s")
		insert(tx, 5)
		fails(sqlFailure(ctx, tx, "select 1/0"), "22012", "after a savepoint")
		sqlExec(ctx, tx, "rollback to s")
		insert(tx, 6)
		must(tx.Commit())
		committed := sqlValue[string](ctx, db, "select string_agg(n::text, ' ' order by n) from "+table)
		same(committed, "1 4 6", "committed rows")
	})
	return ""
}

func (r pqRun) prepared(ctx context.Context) string {
	r.open(r.dsn, 1, func(db *sql.DB) {
		all := make([]*sql.Stmt, statements)
		for n := range all {
			all[n] = got(db.PrepareContext(ctx, fmt.Sprintf("select $1::int + %d", n)))
			defer all[n].Close()
		}
		for n, statement := range all {
			same(scanned[int](statement.QueryRowContext(ctx, 1)), n+1, "prepared statement")
		}
		for offset := 1000; offset <= 2000; offset += 1000 {
			tx := got(db.BeginTx(ctx, nil))
			for n, statement := range all {
				same(scanned[int](tx.StmtContext(ctx, statement).QueryRowContext(ctx, offset)), n+offset, "in a transaction")
			}
			must(tx.Commit())
		}
		for n := range 100 {
			same(scanned[int](all[7].QueryRowContext(ctx, n)), n+7, "the same statement")
		}
	})
	return ""
}

// The driver numbers its statements from 1 on each connection: same names, different texts.
func (r pqRun) preparedSameName(ctx context.Context) string {
	r.open(r.dsn, 2, func(db *sql.DB) {
		one, two := got(db.Conn(ctx)), got(db.Conn(ctx))
		defer one.Close()
		defer two.Close()
		first := got(one.PrepareContext(ctx, "select 'one' || $1::text"))
		second := got(two.PrepareContext(ctx, "select $1::int + 1000"))
		for n := range 50 {
			same(scanned[string](first.QueryRowContext(ctx, fmt.Sprint(n))), fmt.Sprintf("one%d", n), "first")
			same(scanned[int](second.QueryRowContext(ctx, n)), n+1000, "second")
		}
		must(first.Close())
		must(second.Close())
		same(sqlValue[int](ctx, one, "select $1::int", 1), 1, "after Close")
	})
	return ""
}

func (r pqRun) preparedFailed(ctx context.Context) string {
	r.open(r.dsn, 1, func(db *sql.DB) {
		_, err := db.PrepareContext(ctx, "selec 1")
		fails(err, "42601", "Parse of nonsense")
		divide := got(db.PrepareContext(ctx, "select 10 / $1::int"))
		defer divide.Close()
		tx := got(db.BeginTx(ctx, nil))
		fails(tx.StmtContext(ctx, divide).QueryRowContext(ctx, 0).Err(), "22012", "Execute")
		must(tx.Rollback())
		same(scanned[int](divide.QueryRowContext(ctx, 2)), 5, "after a rollback")
	})
	return ""
}

func (r pqRun) types(ctx context.Context) string {
	columns := "n int8, t text, b bytea, at timestamptz, i int[], s text[], j jsonb, f float8, e text"
	r.withTable(ctx, 1, "types", columns, func(db *sql.DB, table string) {
		text, blob := "Grüße, 世界 🐘 '\"\\ \n", []byte{0, 1, 127, 128, 255}
		at := time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)
		numbers, texts := pq.Int64Array{1, 2, -3}, pq.StringArray{"a,b", `"`, "", "ü"}
		sqlExec(ctx, db, "insert into "+table+" values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
			int64(math.MaxInt64), text, blob, at, numbers, texts, `{"a": [1, null]}`, -1.5e300, nil)
		var (
			n    int64
			t, j string
			b    []byte
			when time.Time
			i    pq.Int64Array
			s    pq.StringArray
			f    float64
			e    sql.NullString
		)
		must(db.QueryRowContext(ctx, "select * from "+table).Scan(&n, &t, &b, &when, &i, &s, &j, &f, &e))
		actual := []any{n, t, b, when.UTC(), i, s, j, f, e.Valid}
		expected := []any{int64(math.MaxInt64), text, blob, at, numbers, texts, `{"a": [1, null]}`, -1.5e300, false}
		same(actual, expected, "row")
	})
	return ""
}

func (r pqRun) bigResults(ctx context.Context) string {
	r.open(r.dsn, 1, func(db *sql.DB) {
		rows := got(db.QueryContext(ctx, "select n, repeat('x', 100) from generate_series(1, $1::int) n", 100_000))
		count, text := 0, ""
		for n := 0; rows.Next(); count++ {
			must(rows.Scan(&n, &text))
			check(n == count+1 && len(text) == 100, "row %d differs", count)
		}
		must(rows.Err())
		same(count, 100_000, "rows")
		big := bytes.Repeat([]byte("0123456789"), bigValue/10)
		check(bytes.Equal(sqlValue[[]byte](ctx, db, "select $1::bytea", big), big), "20 MB differ")
		same(sqlValue[int](ctx, db, "select 1"), 1, "afterwards")
	})
	return ""
}

func (r pqRun) copy(ctx context.Context) string {
	r.withTable(ctx, 1, "copy", "n int primary key, t text", func(db *sql.DB, table string) {
		const count = 20_000
		copyIn := func() error {
			tx := got(db.BeginTx(ctx, nil))
			defer tx.Rollback()
			statement := got(tx.PrepareContext(ctx, pq.CopyIn(table, "n", "t")))
			defer statement.Close() // before the Rollback: it waits for the end of the answer
			for n := range count {
				if _, err := statement.ExecContext(ctx, n, fmt.Sprintf("line\t%d", n)); err != nil {
					return err
				}
			}
			if _, err := statement.ExecContext(ctx); err != nil {
				return err
			}
			must(statement.Close())
			return tx.Commit()
		}
		must(copyIn())
		fails(copyIn(), "23505", "COPY of the same rows again")
		right := "select count(*) from " + table + " where t = e'line\\t' || n"
		same(sqlValue[int](ctx, db, right), count, "rows afterwards")
	})
	return ""
}

func (r pqRun) cancel(ctx context.Context) string {
	r.open(r.dsn, 2, func(db *sql.DB) {
		mark := "fc_" + r.run + "_cancel"
		cancellable, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan error, 1)
		go func() { done <- sqlFailure(cancellable, db, "select pg_sleep(20) /* "+mark+" */") }()
		until(func() bool { return sqlValue[int](ctx, db, running, mark) == 1 }, "pg_sleep runs")
		stop()
		cancelled(<-done, "cancelled pg_sleep")
		for range 3 {
			short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			defer stop()
			cancelled(sqlFailure(short, db, "select pg_sleep(20)"), "deadline")
		}
		for n := range 20 {
			same(sqlValue[int](ctx, db, "select $1::int", n), n, "afterwards")
		}
		tx := got(db.BeginTx(ctx, nil))
		sqlExec(ctx, tx, "set local statement_timeout = 50")
		fails(sqlFailure(ctx, tx, "select pg_sleep(20)"), "57014", "statement_timeout")
		must(tx.Rollback())
		same(sqlValue[int](ctx, db, "select 1"), 1, "after statement_timeout")
	})
	return ""
}

// cancelled accepts both of the driver's words: the server's 57014 or its context's own end.
func cancelled(err error, what string) {
	ended := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	check(ended || sqlstate(err) == "57014", "%s: %v, expected 57014", what, err)
}

func (r pqRun) errors(ctx context.Context) string {
	r.withTable(ctx, 1, "errors", "n int primary key", func(db *sql.DB, table string) {
		insert := "insert into " + table + " values ($1)"
		sqlExec(ctx, db, insert, 1)
		for _, bad := range []struct {
			code, text string
			arguments  []any
		}{
			{"42601", "selec 1", nil},
			{"42601", "selec $1", []any{1}},
			{"23505", insert, []any{1}},
			{"22012", "select 1 / 0", nil},
			{"22012", "select 1 / $1::int", []any{0}},
			{"22P02", "select $1::int", []any{"x"}},
			{"42P01", "select * from fc_no_such_table", nil},
		} {
			fails(sqlFailure(ctx, db, bad.text, bad.arguments...), bad.code, bad.text)
			same(sqlValue[int](ctx, db, "select $1::int", 7), 7, "after "+bad.code)
		}
		var violation *pq.Error
		check(errors.As(sqlFailure(ctx, db, insert, 1), &violation), "no pq.Error")
		same(violation.Table+" "+violation.Constraint, table+" "+table+"_pkey", "fields of the error")
	})
	return ""
}

// With binary_parameters the driver sends Parse, Bind, Describe and Execute at once, unnamed.
func (r pqRun) binaryParameters(ctx context.Context) string {
	r.open(r.with("binary_parameters", "yes"), 4, func(db *sql.DB) {
		together(20, func(id int) {
			for n := range 20 {
				same(sqlValue[int](ctx, db, "select $1::int + $2::int", id, n), id+n, "answer")
			}
			fails(sqlFailure(ctx, db, "select 1 / $1::int", 0), "22012", "division")
		})
	})
	return ""
}

func (r pqRun) pooled(ctx context.Context) string {
	r.open(r.dsn, 20, func(db *sql.DB) {
		double := got(db.PrepareContext(ctx, "select $1::int * 2"))
		defer double.Close()
		together(200, func(n int) {
			same(scanned[int](double.QueryRowContext(ctx, n)), n*2, "a statement shared by a pool")
		})
		fails(sqlFailure(ctx, db, "select 1 / 0"), "22012", "an error in the pool")
		same(sqlValue[int](ctx, db, "select 1"), 1, "afterwards")
	})
	return ""
}

func (r pqRun) hundredAtOnce(ctx context.Context) string {
	r.withTable(ctx, 1, "many", "client int, round int", func(owner *sql.DB, table string) {
		ready := barrier(r.clients)
		together(r.clients, func(id int) {
			name := fmt.Sprintf("fc_%s_%d", r.run, id)
			r.open(r.with("application_name", name), 1, func(db *sql.DB) {
				err := db.PingContext(ctx)
				ready()
				must(err)
				mine := got(db.PrepareContext(ctx, fmt.Sprintf("select $1::int + %d", id*1000)))
				defer mine.Close()
				for round := range 5 {
					pqRound(ctx, db, mine, table, name, id, round)
				}
			})
		})
		same(sqlValue[int](ctx, owner, "select count(*) from "+table), r.clients*4, "rows of all")
	})
	return fmt.Sprintf("%d clients", r.clients)
}

// pqRound is one transaction of one of many clients; the last of five is rolled back.
func pqRound(ctx context.Context, db *sql.DB, mine *sql.Stmt, table, name string, id, round int) {
	tx := got(db.BeginTx(ctx, nil))
	sqlExec(ctx, tx, "insert into "+table+" values ($1, $2)", id, round)
	same(scanned[int](tx.StmtContext(ctx, mine).QueryRowContext(ctx, round)), id*1000+round, "mine")
	same(sqlValue[string](ctx, tx, "show application_name"), name, "application_name")
	if round == 4 {
		must(tx.Rollback())
	} else {
		must(tx.Commit())
	}
	own := sqlValue[int](ctx, db, "select count(*) from "+table+" where client = $1", id)
	same(own, min(round+1, 4), "own rows")
}
