package wire

import (
	"bytes"
	"testing"
)

// typicalRequest is what a browser's fetch looks like behind a gateway: 8
// fields in some 400 bytes.
const typicalRequest = "GET /api/v1/products/OLJCESPC7Z?currency=EUR HTTP/1.1\r\n" +
	"Host: frontend.shop.svc.cluster.local:8080\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=4ba3c6ae-7bbd-4f0c\r\n" +
	"X-Request-Id: 7cf0b8a2-8a3a-4f07-9f3f-0d0f1b5a3c52\r\n" +
	"X-Forwarded-For: 10.11.12.13\r\n\r\n"

const typicalAnswer = "HTTP/1.1 200 OK\r\n" +
	"Content-Type: application/json; charset=utf-8\r\n" +
	"Content-Length: 512\r\n" +
	"Date: Sat, 21 Nov 2026 03:23:00 GMT\r\n" +
	"X-Envoy-Upstream-Service-Time: 3\r\n" +
	"Server: nginx\r\n\r\n"

func BenchmarkParseRequest(b *testing.B) {
	buf := make([]byte, len(typicalRequest))
	var h Head
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, typicalRequest)
		if n, err := h.ParseRequest(buf, Limits{}); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkParseAnswer(b *testing.B) {
	buf := make([]byte, len(typicalAnswer))
	var h Head
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, typicalAnswer)
		if n, err := h.ParseAnswer(buf, "GET", Limits{}); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	var h Head
	if _, err := h.ParseRequest([]byte(typicalRequest), Limits{}); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		dst = h.AppendRequest(dst[:0])
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkAppendAnswer(b *testing.B) {
	var h Head
	if _, err := h.ParseAnswer([]byte(typicalAnswer), "GET", Limits{}); err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		dst = h.AppendAnswer(dst[:0])
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkGet(b *testing.B) {
	var h Head
	if _, err := h.ParseRequest([]byte(typicalRequest), Limits{}); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"user-agent", "x-forwarded-for", "traceparent"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.Get(name)
			}
		})
	}
}

// A head of 60 KiB that comes in bytes costs each byte once.
func BenchmarkParseDripping(b *testing.B) {
	buf := append([]byte("GET / HTTP/1.1\r\nHost: x\r\nA: "), bytes.Repeat([]byte("b"), 60000)...)
	buf = append(buf, "\r\n\r\n"...)
	var h Head
	for b.Loop() {
		h.Reset()
		for end := range len(buf) + 1 {
			if _, err := h.ParseRequest(buf[:end], Limits{}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(buf)), "ns/byte")
}
