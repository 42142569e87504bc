package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

type pgxpoolRun struct{ target }

func pgxpoolScenarios(t target) []scenario {
	r := pgxpoolRun{t}
	return []scenario{
		{"connect", r.connect},
		{"transactions", r.transactions},
		{"prepared", r.prepared},
		{"copy", r.copy},
		{"cancel", r.cancel},
		{"errors", r.errors},
		{"pipelines", r.pipelines},
		{"hundred_at_once", r.hundredAtOnce},
	}
}

func (r pgxpoolRun) pooled(ctx context.Context, size int32, use func(*pgxpool.Pool)) {
	config := got(pgxpool.ParseConfig(r.dsn))
	config.MaxConns = size
	pool := got(pgxpool.NewWithConfig(ctx, config))
	defer pool.Close()
	use(pool)
}

func (r pgxpoolRun) withTable(ctx context.Context, size int32, what string, use func(*pgxpool.Pool, string)) {
	r.pooled(ctx, size, func(pool *pgxpool.Pool) {
		table := fmt.Sprintf("fc_pgxpool_%s_%s", r.run, what)
		exec(ctx, pool, "create table "+table+" (n int primary key)")
		defer pool.Exec(context.Background(), "drop table "+table)
		use(pool, table)
	})
}

func (r pgxpoolRun) connect(ctx context.Context) string {
	version := ""
	r.pooled(ctx, 4, func(pool *pgxpool.Pool) {
		must(pool.Ping(ctx))
		version = value[string](ctx, pool, "show server_version")
	})
	return "server_version " + version
}

func (r pgxpoolRun) transactions(ctx context.Context) string {
	r.withTable(ctx, 20, "tx", func(pool *pgxpool.Pool, table string) {
		together(100, func(id int) {
			err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				exec(ctx, tx, "insert into "+table+" values ($1)", id)
				if id%3 == 0 {
					return errors.New("stop")
				}
				return nil
			})
			check((err != nil) == (id%3 == 0), "transaction %d: %v", id, err)
		})
		same(value[int](ctx, pool, "select count(*) from "+table), 66, "committed rows")
	})
	return ""
}

func (r pgxpoolRun) prepared(ctx context.Context) string {
	r.pooled(ctx, 20, func(pool *pgxpool.Pool) {
		together(20, func(id int) {
			for n := range statements {
				text := fmt.Sprintf("select $1::int + %d", (n*7+id)%statements)
				same(value[int](ctx, pool, text, id), id+(n*7+id)%statements, text)
			}
		})
	})
	return ""
}

func (r pgxpoolRun) copy(ctx context.Context) string {
	r.withTable(ctx, 10, "copy", func(pool *pgxpool.Pool, table string) {
		together(10, func(id int) {
			rows := pgx.CopyFromSlice(1000, func(n int) ([]any, error) { return []any{id*1000 + n}, nil })
			same(got(pool.CopyFrom(ctx, pgx.Identifier{table}, []string{"n"}, rows)), int64(1000), "rows copied")
		})
		same(value[int](ctx, pool, "select count(distinct n) from "+table), 10_000, "rows")
	})
	return ""
}

func (r pgxpoolRun) cancel(ctx context.Context) string {
	r.pooled(ctx, 5, func(pool *pgxpool.Pool) {
		together(5, func(int) {
			short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
			defer stop()
			err := failure(short, pool, "select pg_sleep(20)")
			check(errors.Is(err, context.DeadlineExceeded), "deadline: %v", err)
		})
		together(50, func(n int) { same(value[int](ctx, pool, "select $1::int", n), n, "afterwards") })
	})
	return ""
}

func (r pgxpoolRun) errors(ctx context.Context) string {
	r.withTable(ctx, 5, "errors", func(pool *pgxpool.Pool, table string) {
		exec(ctx, pool, "insert into "+table+" values (0)")
		together(50, func(n int) {
			fails(failure(ctx, pool, "selec 1"), "42601", "syntax")
			fails(failure(ctx, pool, "insert into "+table+" values ($1)", 0), "23505", "unique violation")
			fails(failure(ctx, pool, "select 1 / $1::int", 0), "22012", "division")
			same(value[int](ctx, pool, "select $1::int", n), n, "afterwards")
		})
	})
	return ""
}

func (r pgxpoolRun) pipelines(ctx context.Context) string {
	r.pooled(ctx, 20, func(pool *pgxpool.Pool) {
		together(50, func(id int) {
			batch := &pgx.Batch{}
			for n := range 20 {
				batch.Queue(fmt.Sprintf("select $1::int + %d", n), id)
			}
			results := pool.SendBatch(ctx, batch)
			for n := range 20 {
				answer := 0
				must(results.QueryRow().Scan(&answer))
				same(answer, id+n, "answer in a batch")
			}
			must(results.Close())
		})
	})
	return ""
}

func (r pgxpoolRun) hundredAtOnce(ctx context.Context) string {
	r.withTable(ctx, int32(r.clients), "many", func(pool *pgxpool.Pool, table string) {
		ready := barrier(r.clients)
		together(r.clients, func(id int) {
			conn, err := pool.Acquire(ctx)
			ready()
			must(err)
			defer conn.Release()
			got(conn.Conn().Prepare(ctx, "mine", fmt.Sprintf("select $1::int + %d", id*1000)))
			for round := range 5 {
				must(pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
					same(value[int](ctx, tx, "mine", round), id*1000+round, "mine")
					exec(ctx, tx, "insert into "+table+" values ($1)", id*10+round)
					return nil
				}))
			}
		})
		same(value[int](ctx, pool, "select count(*) from "+table), r.clients*5, "rows of all")
	})
	return fmt.Sprintf("%d clients", r.clients)
}
