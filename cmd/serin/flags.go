package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

// options is what every subcommand shares.
type options struct {
	genericiooptions.IOStreams

	dataDirFlag    string
	kubeconfigFlag string
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.dataDirFlag, "data-dir", "", "directory of serin up's state (default $XDG_DATA_HOME/serin or ~/.local/share/serin)")
	flags.StringVar(&o.kubeconfigFlag, "kubeconfig", "", "API to talk to (default: that of --data-dir if given, else $KUBECONFIG, else the running serin up)")
}

// dataDir is the absolute path of the directory in which serin up keeps its
// state. It need not exist.
func (o *options) dataDir() (string, error) {
	dir := o.dataDirFlag
	switch data := os.Getenv("XDG_DATA_HOME"); {
	case dir != "":
	case filepath.IsAbs(data): // the XDG specification: ignore a relative one
		dir = filepath.Join(data, "serin")
	default:
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no data directory: %w: set --data-dir", err)
		}
		dir = filepath.Join(home, ".local", "share", "serin")
	}
	return filepath.Abs(dir)
}

// kubeconfigIn is where serin up with the given data directory writes how to
// reach its API.
func kubeconfigIn(dataDir string) string { return filepath.Join(dataDir, "kubeconfig") }

// kubeconfig is the file that says which API to talk to; ours tells that it
// is the one serin up writes. An explicit flag wins over the environment.
// path is empty when the usual rules of Kubernetes apply ($KUBECONFIG may list
// several files).
func (o *options) kubeconfig() (path string, ours bool, err error) {
	if o.kubeconfigFlag != "" {
		return o.kubeconfigFlag, false, nil
	}
	if o.dataDirFlag == "" && os.Getenv("KUBECONFIG") != "" {
		return "", false, nil
	}
	dir, err := o.dataDir()
	if err != nil {
		return "", false, err
	}
	return kubeconfigIn(dir), true, nil
}

// outputFlag is the value of -o: one of a few words, or empty.
type outputFlag struct {
	value   string
	allowed []string
}

// addOutputFlag gives cmd the flag -o with its allowed values.
func addOutputFlag(cmd *cobra.Command, allowed ...string) *outputFlag {
	f := &outputFlag{allowed: allowed}
	cmd.Flags().VarP(f, "output", "o", "output format: "+strings.Join(allowed, ", "))
	err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic("completion of -o registered twice: " + err.Error())
	}
	return f
}

func (f *outputFlag) String() string { return f.value }
func (f *outputFlag) Type() string   { return "format" }

func (f *outputFlag) Set(s string) error {
	for _, a := range f.allowed {
		if s == a {
			f.value = s
			return nil
		}
	}
	return errors.New("use " + strings.Join(f.allowed, ", "))
}

// structured tells whether -o asks for the objects themselves.
func (f *outputFlag) structured() bool { return f.value == "json" || f.value == "yaml" }

// print writes obj as JSON or YAML.
func (f *outputFlag) print(w io.Writer, obj any) error {
	if f.value == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(obj)
	}
	data, err := yaml.Marshal(obj)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}
