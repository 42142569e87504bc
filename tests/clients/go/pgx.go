package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier is a connection, a pool or a transaction.
type querier interface {
	Exec(ctx context.Context, text string, arguments ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, text string, arguments ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, text string, arguments ...any) pgx.Row
}

type pgxRun struct{ target }

func pgxScenarios(t target) []scenario {
	r := pgxRun{t}
	return []scenario{
		{"connect", r.connect},
		{"simple_query", r.simpleQuery},
		{"transactions", r.transactions},
		{"prepared", r.prepared},
		{"prepared_same_name", r.preparedSameName},
		{"prepared_failed", r.preparedFailed},
		{"prepared_close", r.preparedClose},
		{"types", r.types},
		{"big_results", r.bigResults},
		{"copy", r.copy},
		{"cancel", r.cancel},
		{"errors", r.errors},
		{"pipelines", r.pipelines},
		{"query_modes", r.queryModes},
		{"hundred_at_once", r.hundredAtOnce},
	}
}

func (r pgxRun) connected(ctx context.Context, use func(*pgx.Conn)) {
	conn := got(pgx.Connect(ctx, r.dsn))
	defer conn.Close(context.Background())
	use(conn)
}

func (r pgxRun) withTable(ctx context.Context, what, columns string, use func(*pgx.Conn, string)) {
	r.connected(ctx, func(conn *pgx.Conn) {
		table := fmt.Sprintf("fc_pgx_%s_%s", r.run, what)
		exec(ctx, conn, fmt.Sprintf("create table %s (%s)", table, columns))
		defer conn.Exec(context.Background(), "drop table "+table)
		use(conn, table)
	})
}

func exec(ctx context.Context, on querier, text string, arguments ...any) {
	got(on.Exec(ctx, text, arguments...))
}

func value[T any](ctx context.Context, on querier, text string, arguments ...any) T {
	rows := got(on.Query(ctx, text, arguments...))
	return got(pgx.CollectExactlyOneRow(rows, pgx.RowTo[T]))
}

func failure(ctx context.Context, on querier, text string, arguments ...any) error {
	_, err := on.Exec(ctx, text, arguments...)
	return err
}

func (r pgxRun) connect(ctx context.Context) string {
	conn := got(pgx.Connect(ctx, r.with("application_name", "fc_"+r.run)))
	defer conn.Close(ctx)
	for _, name := range []string{"server_version", "client_encoding", "standard_conforming_strings"} {
		check(conn.PgConn().ParameterStatus(name) != "", "no ParameterStatus %s", name)
	}
	same(value[string](ctx, conn, "show application_name"), "fc_"+r.run, "application_name")
	check(strings.HasPrefix(value[string](ctx, conn, "select version()"), "PostgreSQL"), "version()")
	must(conn.Ping(ctx))
	return "server_version " + conn.PgConn().ParameterStatus("server_version")
}

func (r pgxRun) simpleQuery(ctx context.Context) string {
	r.connected(ctx, func(conn *pgx.Conn) {
		results := got(conn.PgConn().Exec(ctx, "select 1; select 'zwei'; select 3").ReadAll())
		var values []string
		for _, result := range results {
			values = append(values, string(result.Rows[0][0]))
		}
		same(values, []string{"1", "zwei", "3"}, "statements")
		exec(ctx, conn, "")
		same(value[int32](ctx, conn, "select $1::int", pgx.QueryExecModeSimpleProtocol, 7), int32(7), "simple protocol")
	})
	return ""
}

func (r pgxRun) transactions(ctx context.Context) string {
	r.withTable(ctx, "tx", "n int", func(conn *pgx.Conn, table string) {
		insert := func(on querier, n int) { exec(ctx, on, "insert into "+table+" values ($1)", n) }
		tx := got(conn.Begin(ctx))
		insert(tx, 1)
		must(tx.Commit(ctx))
		tx = got(conn.Begin(ctx))
		insert(tx, 2)
		must(tx.Rollback(ctx))
		tx = got(conn.Begin(ctx))
		insert(tx, 3)
		fails(failure(ctx, tx, "select nonsense"), "42703", "unknown column")
		fails(failure(ctx, tx, "select 1"), "25P02", "in a failed transaction")
		check(errors.Is(tx.Commit(ctx), pgx.ErrTxCommitRollback), "commit of a failed transaction")
		tx = got(conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}))
		insert(tx, 4)
		savepoint := got(tx.Begin(ctx))
		insert(savepoint, 5)
		fails(failure(ctx, savepoint, "select 1/0"), "22012", "after a savepoint")
		must(savepoint.Rollback(ctx))
		insert(tx, 6)
		must(tx.Commit(ctx))
		rows := got(conn.Query(ctx, "select n from "+table+" order by n"))
		same(got(pgx.CollectRows(rows, pgx.RowTo[int])), []int{1, 4, 6}, "committed rows")
	})
	return ""
}

func (r pgxRun) prepared(ctx context.Context) string {
	r.connected(ctx, func(conn *pgx.Conn) {
		for n := range 100 {
			same(value[int](ctx, conn, "select $1::int * 2", n), n*2, "cached statement")
		}
		for n := range statements {
			got(conn.Prepare(ctx, fmt.Sprintf("s%d", n), fmt.Sprintf("select $1::int + %d", n)))
		}
		all := func(on querier, offset int) {
			for n := range statements {
				same(value[int](ctx, on, fmt.Sprintf("s%d", n), offset), n+offset, "prepared statement")
			}
		}
		all(conn, 1)
		for offset := 1000; offset <= 2000; offset += 1000 {
			tx := got(conn.Begin(ctx))
			all(tx, offset)
			must(tx.Commit(ctx))
		}
		tx := got(conn.Begin(ctx))
		got(tx.Prepare(ctx, "inside", "select $1::text || '!'"))
		must(tx.Rollback(ctx))
		same(value[string](ctx, conn, "inside", "a"), "a!", "prepared in a transaction rolled back")
	})
	return ""
}

func (r pgxRun) preparedSameName(ctx context.Context) string {
	r.connected(ctx, func(one *pgx.Conn) {
		r.connected(ctx, func(two *pgx.Conn) {
			got(one.Prepare(ctx, "same", "select 'one' || $1::text"))
			got(two.Prepare(ctx, "same", "select $1::int + 1000"))
			for n := range 50 {
				same(value[string](ctx, one, "same", fmt.Sprint(n)), fmt.Sprintf("one%d", n), "first")
				same(value[int](ctx, two, "same", n), n+1000, "second")
			}
		})
	})
	return ""
}

func (r pgxRun) preparedFailed(ctx context.Context) string {
	r.connected(ctx, func(conn *pgx.Conn) {
		_, err := conn.Prepare(ctx, "again", "selec 1")
		fails(err, "42601", "Parse of nonsense")
		got(conn.Prepare(ctx, "again", "select 10 / $1::int"))
		tx := got(conn.Begin(ctx))
		fails(failure(ctx, tx, "again", 0), "22012", "Execute")
		must(tx.Rollback(ctx))
		same(value[int](ctx, conn, "again", 2), 5, "after a rollback")
	})
	return ""
}

func (r pgxRun) preparedClose(ctx context.Context) string {
	r.connected(ctx, func(conn *pgx.Conn) {
		low := conn.PgConn()
		described := got(conn.Prepare(ctx, "d", "select 1 as first, $1::text as second"))
		same(described.ParamOIDs, []uint32{25}, "parameter types")
		same(described.Fields[1].Name, "second", "columns")
		_, err := low.Prepare(ctx, "d", "select 2", nil)
		fails(err, "42P05", "Parse of a name in use")
		gone := func(what string) {
			fails(low.ExecPrepared(ctx, "d", nil, nil, nil).Read().Err, "26000", "after "+what)
			got(conn.Prepare(ctx, "d", "select 3"))
			same(value[int](ctx, conn, "d"), 3, "the name after "+what)
		}
		must(conn.Deallocate(ctx, "d"))
		gone("Close")
		must(conn.DeallocateAll(ctx))
		gone("DEALLOCATE ALL")
		exec(ctx, conn, "discard all", pgx.QueryExecModeSimpleProtocol)
		_ = conn.DeallocateAll(ctx) // makes the driver forget, too
		gone("DISCARD ALL")
	})
	return ""
}

func (r pgxRun) types(ctx context.Context) string {
	type row struct {
		N  int64
		T  string
		B  []byte
		At time.Time
		I  []*int32
		S  []string
		J  map[string]any
		F  float64
		U  [16]byte
		E  *string
	}
	columns := "n int8, t text, b bytea, at timestamptz, i int[], s text[], j jsonb, f float8, u uuid, e text"
	r.withTable(ctx, "types", columns, func(conn *pgx.Conn, table string) {
		one, three := int32(1), int32(-3)
		in := row{
			math.MaxInt64, "Grüße, 世界 🐘 '\"\\ \n", []byte{0, 1, 127, 128, 255},
			time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC), []*int32{&one, nil, &three},
			[]string{"a,b", `"`, "", "ü"}, map[string]any{"a": []any{1.0, nil}, "ü": "🐘"}, -1.5e300, [16]byte{1, 15: 9}, nil,
		}
		for _, mode := range []pgx.QueryExecMode{
			pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
			pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
		} {
			exec(ctx, conn, "insert into "+table+" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
				mode, in.N, in.T, in.B, in.At, in.I, in.S, `{"a": [1, null], "ü": "🐘"}`, in.F, "01000000-0000-0000-0000-000000000009", in.E)
			rows := got(conn.Query(ctx, "select * from "+table, mode))
			out := got(pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[row]))
			out.At = out.At.UTC()
			same(out, in, mode.String())
			exec(ctx, conn, "delete from "+table)
		}
	})
	return ""
}

const running = `select count(*) from pg_stat_activity
	where state = 'active' and pid <> pg_backend_pid() and query like '%' || $1 || '%'`

func (r pgxRun) cancel(ctx context.Context) string {
	r.connected(ctx, func(watcher *pgx.Conn) {
		r.connected(ctx, func(conn *pgx.Conn) {
			mark := "fc_" + r.run + "_cancel"
			done := make(chan error, 1)
			go func() { done <- failure(ctx, conn, "select pg_sleep(20) /* "+mark+" */") }()
			until(func() bool { return value[int](ctx, watcher, running, mark) == 1 }, "pg_sleep runs")
			must(conn.PgConn().CancelRequest(ctx))
			fails(<-done, "57014", "cancelled pg_sleep")
			for n := range 20 {
				same(value[int](ctx, conn, "select $1::int", n), n, "afterwards")
			}
			tx := got(conn.Begin(ctx))
			exec(ctx, tx, "set local statement_timeout = 50")
			fails(failure(ctx, tx, "select pg_sleep(20)"), "57014", "statement_timeout")
			must(tx.Rollback(ctx))
			same(value[int](ctx, conn, "select 1"), 1, "after statement_timeout")
			short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
			defer stop()
			err := failure(short, conn, "select pg_sleep(20)")
			check(errors.Is(err, context.DeadlineExceeded), "deadline: %v", err)
			check(conn.IsClosed(), "the driver closes a connection that misses its deadline")
		})
		same(value[int](ctx, watcher, "select 1"), 1, "another connection afterwards")
	})
	return ""
}

func (r pgxRun) errors(ctx context.Context) string {
	r.withTable(ctx, "errors", "n int primary key", func(conn *pgx.Conn, table string) {
		insert := "insert into " + table + " values (1)"
		exec(ctx, conn, insert)
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
			for _, bad := range [][2]string{
				{"42601", "selec 1"},
				{"23505", insert},
				{"22012", "select 1 / 0"},
				{"42P01", "select * from fc_no_such_table"},
			} {
				fails(failure(ctx, conn, bad[1], mode), bad[0], bad[1])
				same(value[int](ctx, conn, "select $1::int", 7), 7, "after "+bad[0])
			}
		}
		var violation *pgconn.PgError
		check(errors.As(failure(ctx, conn, insert), &violation), "no PgError")
		same(violation.TableName+" "+violation.ConstraintName, table+" "+table+"_pkey", "fields of the error")
	})
	return ""
}

func (r pgxRun) queryModes(ctx context.Context) string {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		conn := got(pgx.Connect(ctx, r.with("default_query_exec_mode", mode)))
		for n := range 20 {
			same(value[string](ctx, conn, "select $1::text || $2::text", fmt.Sprint(n), "ü"), fmt.Sprintf("%dü", n), mode)
		}
		must(conn.Close(ctx))
	}
	return ""
}

func (r pgxRun) hundredAtOnce(ctx context.Context) string {
	r.withTable(ctx, "many", "client int, round int", func(owner *pgx.Conn, table string) {
		ready := barrier(r.clients)
		together(r.clients, func(id int) {
			name := fmt.Sprintf("fc_%s_%d", r.run, id)
			conn, err := pgx.Connect(ctx, r.with("application_name", name))
			ready()
			must(err)
			defer conn.Close(ctx)
			got(conn.Prepare(ctx, "mine", fmt.Sprintf("select $1::int + %d", id*1000)))
			for round := range 5 {
				pgxRound(ctx, conn, table, name, id, round)
			}
		})
		same(value[int](ctx, owner, "select count(*) from "+table), r.clients*4, "rows of all")
	})
	return fmt.Sprintf("%d clients", r.clients)
}

// pgxRound is one transaction of one of many clients; the last of five is rolled back.
func pgxRound(ctx context.Context, conn *pgx.Conn, table, name string, id, round int) {
	tx := got(conn.Begin(ctx))
	exec(ctx, tx, "insert into "+table+" values ($1, $2)", id, round)
	same(value[int](ctx, tx, "mine", round), id*1000+round, "mine")
	same(value[string](ctx, tx, "show application_name"), name, "application_name")
	if round == 4 {
		must(tx.Rollback(ctx))
	} else {
		must(tx.Commit(ctx))
	}
	mine := value[int](ctx, conn, "select count(*) from "+table+" where client = $1", id)
	same(mine, min(round+1, 4), "own rows")
}
