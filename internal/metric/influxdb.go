package metric

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// influxDB asks by Flux, the language of InfluxDB 2. Secret: token and org.
// (https://docs.influxdata.com/influxdb/v2/api/v2/#operation/PostQuery)
type influxDB struct {
	*asker
	org string
}

func newInfluxDB(c Config) (Provider, error) {
	a, err := newAsker(c, "")
	if err != nil || c.Credentials == nil {
		return influxDB{asker: a}, err
	}
	keys, err := c.need("token", "org")
	if err != nil {
		return nil, err
	}
	a.header.Set("Authorization", "Token "+keys[0])
	return influxDB{a, keys[1]}, nil
}

func (p influxDB) Query(ctx context.Context, query string) (float64, error) {
	body, err := p.post(ctx, query)
	if err != nil {
		return 0, err
	}
	return p.result(parseInfluxDB(body))
}

func (p influxDB) Online(ctx context.Context) error {
	body, err := p.post(ctx, "buckets() |> limit(n: 1)")
	if err != nil {
		return err
	}
	// Errors after the first bytes of an answer are in its last table.
	if err := readTables(body, func(map[string]string) error { return nil }); err != nil {
		return p.fail(err)
	}
	return nil
}

func (p influxDB) post(ctx context.Context, query string) ([]byte, error) {
	question, err := json.Marshal(map[string]any{
		"query": query, "type": "flux",
		"dialect": map[string]any{"header": true, "annotations": []string{"datatype"}},
	})
	if err != nil {
		return nil, p.fail(err)
	}
	values := url.Values{}
	if p.org != "" {
		values.Set("org", p.org)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url("api/v2/query", values), bytes.NewReader(question))
	if err != nil {
		return nil, p.fail(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/csv")
	return p.send(req)
}

// parseInfluxDB takes the newest row of the one table with a column _value.
func parseInfluxDB(body []byte) (float64, error) {
	tables := map[string]string{} // the last value of each
	err := readTables(body, func(row map[string]string) error {
		if v, ok := row["_value"]; ok && v != "" {
			tables[row["result"]+"\x00"+row["table"]] = v
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var values []float64
	for _, text := range tables {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return 0, fmt.Errorf("_value is %s: let the query give a number", clip(strconv.Quote(text)))
		}
		values = append(values, v)
	}
	return measuredOnly(values)
}

// readTables walks annotated CSV: rows that begin with # announce a table, the
// first row after them has the names of its columns. An empty value means the
// default of the column; only the name of the result has one in answers.
func readTables(body []byte, row func(map[string]string) error) error {
	r := csv.NewReader(bytes.NewReader(body))
	r.FieldsPerRecord = -1
	var columns []string
	announced := true // a table without annotations may come first
	for {
		record, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the answer is not that of this kind of provider (%w): check type and address", err)
		case strings.HasPrefix(record[0], "#"):
			announced = true
			continue
		case announced:
			columns, announced = record, false
			if !slices.Contains(columns, "table") && !slices.Contains(columns, "error") {
				return errors.New("the answer is not annotated CSV: check type and address")
			}
			continue
		}
		values := map[string]string{}
		for i, name := range columns {
			if i < len(record) {
				values[name] = record[i]
			}
		}
		if message, isError := values["error"]; isError && !slices.Contains(columns, "table") {
			return fmt.Errorf("%s: check the query", clip(message))
		}
		if err := row(values); err != nil {
			return err
		}
	}
}
