// What kube-state-metrics says of objects that it is given, without a cluster: pods and nodes as JSON on standard
// input, one behind the other, and their series on standard output.
//
// The generators are those of the program. It keeps them to itself, but hands them to whoever replaces how it
// fills its stores.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"os"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kube-state-metrics/v2/pkg/builder"
	generator "k8s.io/kube-state-metrics/v2/pkg/metric_generator"
	metricsstore "k8s.io/kube-state-metrics/v2/pkg/metrics_store"
)

var (
	labels      = flag.String("labels", "", "labels that are shown, separated by commas")
	annotations = flag.String("annotations", "", "annotations that are shown, separated by commas")
)

type listWatch = func(clientset.Interface, string, string) cache.ListerWatcher

func main() {
	flag.Parse()
	objects, err := read(os.Stdin)
	exitOn(err)
	build := builder.NewBuilder()
	// With no filter those are there, too, that have to be asked for.
	build.WithFamilyGeneratorFilter(generator.NewCompositeFamilyGeneratorFilter())
	exitOn(build.WithEnabledResources([]string{"nodes", "pods"}))
	exitOn(build.WithAllowLabels(allowed(*labels)))
	exitOn(build.WithAllowAnnotations(allowed(*annotations)))
	build.WithGenerateStoresFunc(func(families []generator.FamilyGenerator, kind interface{}, _ listWatch, _ bool, _ int64) []cache.Store {
		headers := generator.ExtractMetricFamilyHeaders(families)
		store := metricsstore.NewMetricsStore(headers, generator.ComposeMetricGenFuncs(families))
		for _, object := range objects {
			if reflect.TypeOf(object) == reflect.TypeOf(kind) {
				exitOn(store.Add(object))
			}
		}
		return []cache.Store{store}
	})
	for _, writer := range build.Build() {
		exitOn(writer.WriteAll(os.Stdout))
	}
}

func read(from io.Reader) ([]interface{}, error) {
	var objects []interface{}
	decoder := json.NewDecoder(from)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		var kind struct{ Kind string }
		if err := json.Unmarshal(raw, &kind); err != nil {
			return nil, err
		}
		var object interface{} = &v1.Pod{}
		if kind.Kind == "Node" {
			object = &v1.Node{}
		}
		if err := json.Unmarshal(raw, object); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

func allowed(list string) map[string][]string {
	if list == "" {
		return nil
	}
	each := strings.Split(list, ",")
	return map[string][]string{"pods": each, "nodes": each}
}

func exitOn(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
