package main

import (
	"strings"
	"testing"
)

func TestImagesStandForOneProgramEach(t *testing.T) {
	mappings, err := imageMappings()
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"serin.dev/demo/music:v1":                              "demoapp music",
		"serin.dev/demo/db:v1":                                 "demoapp db",
		"docker.io/istio/examples-bookinfo-reviews-v1:1.20.3":  "demoapp reviews v1",
		"istio/examples-bookinfo-reviews-v2:1.15.0":            "demoapp reviews v2",
		"docker.io/istio/examples-bookinfo-ratings-v1:1.20.3":  "demoapp ratings v1",
		"ghcr.io/fluxcd/flagger-loadtester:0.31.0":             "load serve",
		"weaveworks/flagger-loadtester:0.18.0":                 "load serve",
		"docker.io/library/nginx:1.27":                         "",
		"serin.dev/demo/musicbox:v1":                           "",
		"docker.io/istio/examples-bookinfo-reviews-v12:1.20.3": "",
	} {
		var got []string
		for _, m := range mappings {
			if m.Matches(image) {
				got = append(got, strings.Join(m.Command[1:], " "))
			}
		}
		if g := strings.Join(got, ", "); g != want {
			t.Errorf("%s runs %q; want %q", image, g, want)
		}
	}
}
