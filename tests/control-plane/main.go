// Package main holds kube-apiserver and kube-controller-manager in one binary, chosen by the
// name it is called by or by its first argument. The tests build it once and cache it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

var servers = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
}

func main() {
	newServer, ok := servers[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		newServer, ok = servers[os.Args[1]]
		os.Args = os.Args[1:]
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: control-plane (kube-apiserver | kube-controller-manager) [flags]")
		os.Exit(2)
	}
	os.Exit(cli.Run(newServer()))
}
