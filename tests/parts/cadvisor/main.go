// cAdvisor as it runs by itself, of its manager and its collectors: the module that it publishes has all but
// the program.
//
// The library brings its own flags (`--docker`, `--housekeeping_interval`, ...). Those here have the names
// that the program gives them, but for `--address`, `--metrics` and `--kubelet_labels`, which only exist here.
package main

import (
	"flag"
	"net/http"
	"strings"
	"time"

	"github.com/google/cadvisor/cache/memory"
	"github.com/google/cadvisor/container"
	_ "github.com/google/cadvisor/container/containerd/install"
	_ "github.com/google/cadvisor/container/crio/install"
	_ "github.com/google/cadvisor/container/docker/install"
	_ "github.com/google/cadvisor/container/systemd/install"
	info "github.com/google/cadvisor/info/v1"
	infov2 "github.com/google/cadvisor/info/v2"
	"github.com/google/cadvisor/manager"
	"github.com/google/cadvisor/metrics"
	"github.com/google/cadvisor/utils/sysfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// What kubelet has cAdvisor read, beside the pressure that a feature gate of it adds.
var kubelets = []container.MetricKind{
	container.CpuUsageMetrics, container.MemoryUsageMetrics, container.CpuLoadMetrics, container.DiskIOMetrics,
	container.DiskUsageMetrics, container.NetworkUsageMetrics, container.AppMetrics, container.ProcessMetrics,
	container.OOMMetrics, container.PressureMetrics,
}

// What `all` leaves out: it ends at once on a machine without such hardware or hierarchies, or resets the
// counters of other processes.
var harmful = []container.MetricKind{
	container.PerfMetrics, container.ResctrlMetrics, container.ReferencedMemoryMetrics,
}

var (
	address       = flag.String("address", "127.0.0.1:8080", "where /metrics is served")
	set           = flag.String("metrics", "kubelet", "`kubelet` for what kubelet reads, or `all`")
	storeLabels   = flag.Bool("store_container_labels", true, "have a label for each label of a container")
	kubeletLabels = flag.Bool("kubelet_labels", false, "have the six labels that kubelet's endpoint has")
	storage       = flag.Duration("storage_duration", 2*time.Minute, "how long figures are kept")
	prefixes      = flag.String("raw_cgroup_prefix_whitelist", "", "read cgroups whose paths begin so, beside the root and containers; separated by commas")
)

func main() {
	klog.InitFlags(nil)
	flag.Parse()
	included := chosen(*set)
	cadvisor, err := manager.New(memory.New(*storage, nil), sysfs.NewRealSysFs(), manager.HousekeepingConfigFlags,
		included, http.DefaultClient, strings.Split(*prefixes, ","), nil, "", 0)
	if err != nil {
		klog.Exitf("no manager: %v", err)
	}
	if err := cadvisor.Start(); err != nil {
		klog.Exitf("the manager does not start: %v", err)
	}
	registry := prometheus.NewRegistry()
	everything := infov2.RequestOptions{IdType: infov2.TypeName, Count: 1, Recursive: true}
	registry.MustRegister(
		metrics.NewPrometheusCollector(cadvisor, labels(), included, clock.RealClock{}, everything),
		metrics.NewPrometheusMachineCollector(cadvisor, included),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	options := promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}
	http.Handle("/metrics", promhttp.HandlerFor(registry, options))
	klog.Exit(http.ListenAndServe(*address, nil))
}

func chosen(name string) container.MetricSet {
	chosen := container.MetricSet{}
	if name != "all" {
		for _, kind := range kubelets {
			chosen[kind] = struct{}{}
		}
		return chosen
	}
	for kind := range container.AllMetrics {
		chosen[kind] = struct{}{}
	}
	for _, kind := range harmful {
		delete(chosen, kind)
	}
	return chosen
}

func labels() metrics.ContainerLabelsFunc {
	switch {
	case *kubeletLabels:
		return asKubelet
	case *storeLabels:
		return metrics.DefaultContainerLabels
	}
	return metrics.BaseContainerLabels(nil)
}

// Kubelet leaves in a runtime's labels whose a container is.
func asKubelet(of *info.ContainerInfo) map[string]string {
	labels := map[string]string{"id": of.Name, "name": "", "image": of.Spec.Image}
	if len(of.Aliases) > 0 {
		labels["name"] = of.Aliases[0]
	}
	for short, key := range map[string]string{
		"container": "io.kubernetes.container.name",
		"namespace": "io.kubernetes.pod.namespace",
		"pod":       "io.kubernetes.pod.name",
	} {
		labels[short] = of.Spec.Labels[key]
	}
	return labels
}
