package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func (r pgxRun) bigResults(ctx context.Context) string {
	r.connected(ctx, func(conn *pgx.Conn) {
		rows := got(conn.Query(ctx, "select n, repeat('x', 100) from generate_series(1, $1::int) n", 100_000))
		count, text := 0, ""
		for n := 0; rows.Next(); count++ {
			must(rows.Scan(&n, &text))
			check(n == count+1 && len(text) == 100, "row %d differs", count)
		}
		must(rows.Err())
		same(count, 100_000, "rows")
		big := bytes.Repeat([]byte("0123456789"), bigValue/10)
		check(bytes.Equal(value[[]byte](ctx, conn, "select $1::bytea", big), big), "20 MB differ")
		same(value[int](ctx, conn, "select 1"), 1, "afterwards")
	})
	return ""
}

func (r pgxRun) copy(ctx context.Context) string {
	r.withTable(ctx, "copy", "n int primary key, t text", func(conn *pgx.Conn, table string) {
		const count = 20_000
		lines := make([][]any, count)
		var expected bytes.Buffer
		for n := range lines {
			lines[n] = []any{n, fmt.Sprintf("line %d", n)}
			fmt.Fprintf(&expected, "%d\tline %d\n", n, n)
		}
		copyIn := func() (int64, error) {
			return conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"n", "t"}, pgx.CopyFromRows(lines))
		}
		same(got(copyIn()), int64(count), "rows copied")
		var out bytes.Buffer
		got(conn.PgConn().CopyTo(ctx, &out, "copy (select * from "+table+" order by n) to stdout"))
		check(bytes.Equal(out.Bytes(), expected.Bytes()), "COPY out differs from COPY in")
		_, err := copyIn()
		fails(err, "23505", "COPY of the same rows again")
		_, err = conn.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\n"), "copy "+table+" from stdin")
		fails(err, "22P02", "COPY of bad data")
		broken := pgx.CopyFromFunc(func() ([]any, error) { return nil, errors.New("source broke") })
		_, err = conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"n", "t"}, broken)
		fails(err, "57014", "COPY from a broken source")
		same(value[int](ctx, conn, "select count(*) from "+table), count, "rows afterwards")
	})
	return ""
}

func (r pgxRun) pipelines(ctx context.Context) string {
	r.withTable(ctx, "batch", "n int primary key", func(conn *pgx.Conn, table string) {
		for range 2 {
			batch, sum := &pgx.Batch{}, 0
			for n := range statements {
				batch.Queue(fmt.Sprintf("select $1::int + %d", n), n).QueryRow(func(row pgx.Row) error {
					answer := 0
					err := row.Scan(&answer)
					check(answer == 2*n, "answer %d in a batch: %d", n, answer)
					sum += answer
					return err
				})
			}
			must(conn.SendBatch(ctx, batch).Close())
			same(sum, statements*(statements-1), "sum of a batch")
		}
		batch := &pgx.Batch{}
		for _, n := range []int{1, 2, 1, 3} {
			batch.Queue("insert into "+table+" values ($1)", n)
		}
		fails(conn.SendBatch(ctx, batch).Close(), "23505", "batch with an error")
		same(value[int](ctx, conn, "select count(*) from "+table), 0, "a failed batch leaves nothing")
		r.manySyncs(ctx, conn)
	})
	return ""
}

// manySyncs sends a pipeline of 50 Syncs, every fifth with an error, before it reads an answer.
func (r pgxRun) manySyncs(ctx context.Context, conn *pgx.Conn) {
	pipeline := conn.PgConn().StartPipeline(ctx)
	for n := range 50 {
		pipeline.SendPrepare(fmt.Sprintf("piped%d", n), fmt.Sprintf("select %d / $1::int", n), nil)
		by := []byte("1")
		if n%5 == 0 {
			by = []byte("0")
		}
		pipeline.SendQueryPrepared(fmt.Sprintf("piped%d", n), [][]byte{by}, nil, nil)
		pipeline.SendPipelineSync()
	}
	must(pipeline.Flush())
	for n := range 50 {
		_, prepared := got(pipeline.GetResults()).(*pgconn.StatementDescription)
		check(prepared, "no description of statement %d", n)
		result, err := pipeline.GetResults()
		if n%5 == 0 { // Bind plans the statement, and there fails the division
			fails(err, "22012", "division in a pipeline")
		} else {
			rows := result.(*pgconn.ResultReader).Read().Rows
			same(string(rows[0][0]), fmt.Sprint(n), "answer in a pipeline")
		}
		_, synced := got(pipeline.GetResults()).(*pgconn.PipelineSync)
		check(synced, "no sync %d", n)
	}
	must(pipeline.Close())
}
