package demoapp

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A music service and a user service in front of one database service.

// dbTimeout bounds a call to the database.
const dbTimeout = 5 * time.Second

func musicApp() app { return collection("music", 30001) }
func userApp() app  { return collection("user", 30000) }

// collection is a service that keeps one table in db and offers it under
// /api/v1/<name>.
func collection(name string, port int) app {
	return app{
		name:  name,
		port:  port,
		calls: map[string]string{"db": "http://db:30002"},
		routes: func(s *service, mux *http.ServeMux) {
			ask := func(r *http.Request, path string, body record) (record, error) {
				ctx, cancel := context.WithTimeout(r.Context(), dbTimeout)
				defer cancel()
				return s.call(ctx, r, r.Method, "db", "/api/v1/datastore/"+name+path, body)
			}
			list := s.read(func(r *http.Request) (record, error) { return ask(r, "", nil) })
			create := s.handle(func(r *http.Request) (record, error) {
				body, err := decode(r)
				if err != nil {
					return nil, err
				}
				return ask(r, "", body)
			})
			one := func(r *http.Request) (record, error) { return ask(r, "/"+url.PathEscape(r.PathValue("id")), nil) }

			base := "/api/v1/" + name
			for _, path := range []string{base, base + "/{$}"} {
				mux.Handle("GET "+path, list)
				mux.Handle("POST "+path, create)
			}
			mux.Handle("GET "+base+"/{id}", s.read(one))
			mux.Handle("DELETE "+base+"/{id}", s.handle(one))
		},
	}
}

func dbApp() app {
	return app{
		name: "db",
		port: 30002,
		routes: func(s *service, mux *http.ServeMux) {
			d := newStore()
			base := "/api/v1/datastore/{table}"
			mux.Handle("GET "+base, s.read(func(r *http.Request) (record, error) {
				items, err := d.list(r.PathValue("table"))
				return record{"items": items}, err
			}))
			mux.Handle("POST "+base, s.handle(func(r *http.Request) (record, error) {
				body, err := decode(r)
				if err != nil {
					return nil, err
				}
				return d.add(r.PathValue("table"), body)
			}))
			mux.Handle("GET "+base+"/{id}", s.read(func(r *http.Request) (record, error) {
				return d.get(r.PathValue("table"), r.PathValue("id"))
			}))
			mux.Handle("DELETE "+base+"/{id}", s.handle(func(r *http.Request) (record, error) {
				return d.remove(r.PathValue("table"), r.PathValue("id"))
			}))
		},
	}
}

// maxRecords of a table: a demo that runs for weeks must not eat the memory.
const maxRecords = 200

// store keeps tables of records in memory. Records are never changed once
// they are in.
type store struct {
	mu     sync.Mutex
	tables map[string]*table
}

type table struct {
	last    int // highest id given out
	records map[string]record
}

func newStore() *store {
	d := &store{tables: map[string]*table{
		"music": {records: map[string]record{}},
		"user":  {records: map[string]record{}},
	}}
	for _, song := range [][2]string{
		{"Antonio Vivaldi", "Il gardellino"},
		{"Olivier Messiaen", "Catalogue d'oiseaux"},
		{"Ralph Vaughan Williams", "The Lark Ascending"},
		{"Ottorino Respighi", "Gli uccelli"},
		{"François Couperin", "Le rossignol en amour"},
		{"Jean-Philippe Rameau", "Le rappel des oiseaux"},
		{"Clément Janequin", "Le chant des oiseaux"},
		{"Camille Saint-Saëns", "Volière"},
	} {
		d.tables["music"].add(record{"artist": song[0], "title": song[1]})
	}
	for _, user := range [][2]string{
		{"Ada", "Lovelace"}, {"Grace", "Hopper"}, {"Alan", "Turing"}, {"Barbara", "Liskov"},
	} {
		d.tables["user"].add(record{"firstName": user[0], "lastName": user[1]})
	}
	return d
}

// table returns the named table; d.mu must be held.
func (d *store) table(name string) (*table, error) {
	t := d.tables[name]
	if t == nil {
		return nil, fail(http.StatusNotFound, "no table %q: take one of %v", name, slices.Sorted(maps.Keys(d.tables)))
	}
	return t, nil
}

func (d *store) list(name string) ([]record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.table(name)
	if err != nil {
		return nil, err
	}
	items := make([]record, 0, len(t.records))
	for id := 1; id <= t.last; id++ {
		if rec, ok := t.records[strconv.Itoa(id)]; ok {
			items = append(items, rec)
		}
	}
	return items, nil
}

func (d *store) get(name, id string) (record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.table(name)
	if err != nil {
		return nil, err
	}
	rec, ok := t.records[id]
	if !ok {
		return nil, fail(http.StatusNotFound, "no %s with id %q", name, id)
	}
	return rec, nil
}

func (d *store) add(name string, rec record) (record, error) {
	for _, own := range []string{"id", "version"} {
		if _, ok := rec[own]; ok {
			return nil, fail(http.StatusBadRequest, "leave out %q: the service sets it", own)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.table(name)
	if err != nil {
		return nil, err
	}
	if len(t.records) >= maxRecords {
		return nil, fail(http.StatusConflict, "%s holds %d records, which is all it may: delete some", name, maxRecords)
	}
	return t.add(rec), nil
}

func (t *table) add(rec record) record {
	t.last++
	id := strconv.Itoa(t.last)
	rec["id"] = id
	t.records[id] = rec
	return rec
}

func (d *store) remove(name, id string) (record, error) {
	rec, err := d.get(name, id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tables[name].records, id)
	return rec, nil
}
