// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "ns", Name: name}
}

func TestStartsAreBounded(t *testing.T) {
	var woken []string
	q := &starts{limit: func() int { return 2 }, wake: func(n types.NamespacedName) { woken = append(woken, n.Name) }}
	now := time.Now()
	for i := range 5 {
		// The youngest ask first; age decides.
		answer := q.ask(named(fmt.Sprint(i)), now.Add(-time.Duration(i)*time.Minute), now)
		if want := i >= 2; (answer.position > 0) != want {
			t.Errorf("tenant %d: %+v", i, answer)
		}
	}
	if again := q.ask(named("2"), now.Add(-2*time.Minute), now); again.position != 3 || again.running != 2 || again.again != startPatience {
		t.Errorf("the youngest in the queue: %+v", again)
	}
	q.over(named("0"), now)
	q.over(named("1"), now)
	if want := []string{"4", "3"}; !slices.Equal(woken, want) {
		t.Errorf("woken %v, want %v", woken, want)
	}
	for _, name := range woken {
		if answer := q.ask(named(name), now, now); answer.position != 0 {
			t.Errorf("%s was woken and has to wait: %+v", name, answer)
		}
	}
}

func TestStuckStartsBlockNobody(t *testing.T) {
	q := &starts{limit: func() int { return 1 }}
	now := time.Now()
	q.ask(named("stuck"), now, now)
	waiting := q.ask(named("next"), now, now.Add(time.Minute))
	if waiting.position != 1 || waiting.again != startPatience-time.Minute {
		t.Fatalf("%+v", waiting)
	}
	if after := q.ask(named("next"), now, now.Add(time.Minute+waiting.again)); after.position != 0 {
		t.Errorf("still waits for a start that is stuck: %+v", after)
	}
	if again := q.ask(named("stuck"), now, now.Add(time.Hour)); again.position != 0 {
		t.Errorf("what has been let in has to wait: %+v", again)
	}
}

func TestStartsAfterARestart(t *testing.T) {
	q := &starts{limit: func() int { return 1 }}
	now := time.Now()
	q.started(named("a"), now)
	q.started(named("b"), now)
	if answer := q.ask(named("c"), now, now); answer.position != 1 || answer.running != 2 {
		t.Errorf("%+v", answer)
	}
	q.over(named("a"), now)
	if answer := q.ask(named("c"), now, now); answer.position != 1 {
		t.Errorf("one of two has started, the limit is one: %+v", answer)
	}
	q.over(named("c"), now)
	q.over(named("b"), now)
	if len(q.queue) != 0 || len(q.running) != 0 {
		t.Errorf("left over: %v, %v", q.queue, q.running)
	}
}

func TestStartsFollowProcessors(t *testing.T) {
	node := func(name, cpu string, unschedulable bool) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"large": "label"}}}
		n.Spec.Unschedulable = unschedulable
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		slim, err := SlimNode(n)
		if err != nil || len(slim.(*corev1.Node).Labels) != 0 {
			t.Fatalf("%v, %v", slim, err)
		}
		return slim.(*corev1.Node)
	}
	var p processors
	check := func(what string, want int) {
		t.Helper()
		if have := p.starts(); have != want {
			t.Errorf("%s: %d starts, want %d", what, have, want)
		}
	}
	check("no node", fewestStarts)
	p.see(node("a", "2", false), false)
	check("two cores", 2)
	p.see(node("b", "7910m", false), false)
	check("a second node", 9)
	p.see(node("b", "7910m", false), false)
	check("the same once more", 9)
	p.see(node("b", "7910m", true), false)
	check("cordoned", 2)
	p.see(toolscache.DeletedFinalStateUnknown{Obj: node("a", "2", false)}, true)
	check("gone", fewestStarts)
}
