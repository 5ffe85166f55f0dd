package record

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// packed is what a packed file's name ends with besides.
const packed = ".gz"

// file is the record of a run that is on.
type file struct {
	f      *os.File
	path   string
	size   int64
	most   int64 // bytes
	cut    bool
	plan   []byte      // encoded last
	inputs inputWriter // since the state that was encoded last
	at     time.Time   // of the look that was encoded last
	number int         // of the look that was encoded last, behind its state
	known  bool        // the look before the next one was encoded, by this process
}

// create makes a file that has its header, or none.
func create(path string, h Header, most int64) (*file, error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	out := &file{f: f, path: path, most: most}
	head, err := encode(line{Record: &h})
	if err == nil {
		err = out.append(head)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return out, nil
}

// reopen goes on in a file. If a crash left a part of a line there, the next
// one begins on a line of its own. A file that was packed, before the crash
// took the state back that its run had ended in, is unpacked.
func reopen(path string, most int64) (*file, error) {
	if err := restore(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	out := &file{f: f, path: path, most: most}
	if out.size, err = f.Seek(0, io.SeekEnd); err == nil && out.size > 0 {
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, out.size-1); err == nil && last[0] != '\n' {
			err = out.append([]byte("\n"))
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return out, nil
}

// entry is what a look adds to a record.
type entry struct {
	plan, was any // plan and state before
	// wasAt and at are the times of the looks before and of this one, where the
	// state has them; zero = the look follows from that which was added before.
	wasAt, at time.Time
	input     any // a pointer
	unwritten int // looks before this one
	decision  *Decision
	acked     *Acked
	seen      *Seen
	end       *End
}

// encode returns what a look adds, to be appended in one piece. If that is not
// done, the file must not be used again.
func (f *file) encode(e entry) ([]byte, error) {
	var lines []line
	if e.unwritten > 0 {
		lines = append(lines, line{Unwritten: e.unwritten})
	}
	if f.size > f.most && !f.cut {
		f.cut = true
		lines = append(lines, line{Cut: fmt.Sprintf("the record has more than %d MB: from here on it holds decisions and acknowledgements alone, each with the state before it", f.most>>20)})
	}
	if f.cut && e.decision == nil && e.acked == nil {
		f.known = false
		return encode(lines...)
	}
	plan, err := marshal(e.plan, false)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(plan, f.plan) {
		lines = append(lines, line{Plan: plan})
	}
	if !f.known || !e.wasAt.Equal(f.at) {
		state, err := json.Marshal(e.was)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line{State: state})
		f.inputs.last, f.number = map[string]string{}, 0
	}
	look, err := f.inputs.write(e.input)
	if err != nil {
		return nil, err
	}
	f.number++
	this := line{Look: look, Number: f.number, Decision: e.decision, Acked: e.acked}
	if e.decision != nil {
		this.Seen = e.seen
	}
	lines = append(lines, this)
	if e.end != nil {
		lines = append(lines, line{End: e.end})
	}
	f.plan, f.at, f.known = plan, e.at, true
	return encode(lines...)
}

func encode(lines ...line) ([]byte, error) {
	var data []byte
	for _, l := range lines {
		one, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		data = append(append(data, one...), '\n')
	}
	return data, nil
}

// append appends all of it or, as long as the process lives, nothing.
func (f *file) append(data []byte) error {
	if _, err := f.f.Write(data); err != nil {
		return errors.Join(err, f.f.Truncate(f.size))
	}
	f.size += int64(len(data))
	return nil
}

// pack ends the file and replaces it by a packed one. If that does not work
// out, such as without space, it stays as it is, and reads as well.
func (f *file) pack() {
	f.f.Close()
	if err := packFile(f.path); err != nil {
		os.Remove(f.path + packed + ".new")
		return
	}
	f.unpacked()
}

// unpacked removes what was packed; if it has been removed meanwhile to make
// room, the pack goes, too.
func (f *file) unpacked() {
	if err := os.Remove(f.path); errors.Is(err, fs.ErrNotExist) {
		os.Remove(f.path + packed)
	}
}

// restore makes a file of a packed one, if that is all there is.
func restore(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from, err := unpack(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, os.Remove(to.Name()))
	}
	return os.Rename(to.Name(), path)
}

func packFile(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+packed+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(to)
	_, err = io.Copy(z, from)
	if err := errors.Join(err, z.Close(), to.Sync(), to.Close()); err != nil {
		return err
	}
	return os.Rename(to.Name(), path+packed)
}

// unpack opens a file, packed or not.
func unpack(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if f, err = os.Open(path + packed); err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return packedFile{z, f}, nil
}

type packedFile struct {
	*gzip.Reader
	f *os.File
}

func (p packedFile) Close() error { return errors.Join(p.Reader.Close(), p.f.Close()) }

// headerOf reads the first line of a file, of whatever format. It is zero when
// there is no file, or one that does not begin with a header, such as the
// remains of a crash. An error says that the file cannot be read now.
func headerOf(path string) (Header, error) {
	var first []byte
	r, err := unpack(path)
	if err == nil {
		first, err = bufio.NewReader(r).ReadBytes('\n')
		r.Close()
	}
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) && !errors.Is(err, fs.ErrNotExist) {
		return Header{}, err
	}
	var l line
	if json.Unmarshal(first, &l) != nil || l.Record == nil {
		return Header{}, nil
	}
	return *l.Record, nil
}

// remove removes a file in both forms.
func remove(path string) error {
	for _, name := range []string{path, path + packed} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
