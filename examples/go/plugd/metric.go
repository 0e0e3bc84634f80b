package plugd

import (
	"fmt"
	"strings"
	"sync"
)

const (
	kindGauge   = 1
	kindCounter = 2
)

// collections after which a series that was not added to is asked for again: plugd forgets some of those that have not
// been seen for a hundred.
const forgetAfter = 32

// Metric is what Gauge and Counter declare.
type Metric struct {
	kind     int
	name     string
	unit     string
	help     string
	labels   []string
	number   int
	byLabels map[string]*Series // by the values of its labels, joined
}

// Series is a metric with a value for each of its labels.
type Series struct {
	metric *Metric
	labels []string
	id     uint32
	used   uint64 // the collection that it was last part of; 0: it has no id yet
}

var metrics []*Metric

// Gauge declares a metric that goes up and down.
//
// The name is as in OpenTelemetry, "system.cpu.frequency"; the unit is UCUM's, "Hz", "By", "1"; help is one sentence on
// what a value means; labels are the names of those that every series of it has.
func Gauge(name, unit, help string, labels ...string) *Metric {
	return declare(kindGauge, name, unit, help, labels)
}

// Counter declares a metric that only grows, and starts again at zero with what it counts. plugd derives its rate.
func Counter(name, unit, help string, labels ...string) *Metric {
	return declare(kindCounter, name, unit, help, labels)
}

func declare(kind int, name, unit, help string, labels []string) *Metric {
	metric := &Metric{kind: kind, name: name, unit: unit, help: help, labels: labels, number: len(metrics),
		byLabels: map[string]*Series{}}
	metrics = append(metrics, metric)
	return metric
}

// Series returns the series with these values of its labels, in the order of their declaration. A plugin with
// thousands of series keeps them, and saves a look-up for each sample.
func (m *Metric) Series(labels ...string) *Series {
	return &Series{metric: m, labels: append([]string(nil), labels...)}
}

// Samples is where Collect puts what it finds. Several goroutines may do so at once.
type Samples struct {
	mutex   sync.Mutex
	turn    uint64 // which collection this is, from 1
	key     []byte
	list    []sample
	problem string
}

type sample struct {
	series *Series
	value  float64
}

// Add adds a sample to a metric's series with these labels, of which there are as many as were declared.
func (s *Samples) Add(metric *Metric, value float64, labels ...string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.key = s.key[:0]
	for _, label := range labels {
		s.key = append(append(s.key, label...), 0)
	}
	series := metric.byLabels[string(s.key)] // This conversion copies nothing.
	if series == nil {
		series = metric.Series(labels...)
		metric.byLabels[string(s.key)] = series
	}
	s.list = append(s.list, sample{series, value})
}

// AddTo adds a sample to a series that Metric.Series has returned.
func (s *Samples) AddTo(series *Series, value float64) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.list = append(s.list, sample{series, value})
}

// next begins a collection.
func (s *Samples) next() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.turn++
	s.list = s.list[:0]
	if s.turn%forgetAfter == 0 {
		for _, metric := range metrics {
			for key, series := range metric.byLabels {
				if series.used+forgetAfter < s.turn {
					delete(metric.byLabels, key)
				}
			}
		}
	}
}

// identify gives every series of the collection its id, which ask finds out.
func (s *Samples) identify(ask func(series *Series) (uint32, error)) error {
	for _, each := range s.list {
		series := each.series
		if series.used == 0 || series.used+forgetAfter < s.turn {
			if len(series.labels) != len(series.metric.labels) {
				return fmt.Errorf("a sample of %s has %d labels; declared are %d: %s", series.metric.name,
					len(series.labels), len(series.metric.labels), strings.Join(series.metric.labels, ", "))
			}
			id, err := ask(series)
			if err != nil {
				return err
			}
			series.id = id
		}
		series.used = s.turn
	}
	return nil
}
