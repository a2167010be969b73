package scale

import (
	"testing"
	"time"
)

// TestGuessedCapacity holds that the document's 100 messages a second raise nothing
// on a machine that is calm, and count as soon as it is not, or was measured.
func TestGuessedCapacity(t *testing.T) {
	at := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC)
	tests := []struct {
		name        string
		capacity    Capacity
		cpu, memory float64 // below 0: not known
		messages    float64
		calm, fires bool
	}{
		{"fresh and idle", Capacity{}, 0.01, 0.1, 0, true, false},
		{"light load on a calm machine", Capacity{}, 0.05, 0.1, 95, true, false},
		{"much load on a calm machine", Capacity{}, 0.7, 0.7, 5000, true, false},
		{"busy processors", Capacity{}, 0.71, 0.1, 95, false, true},
		{"full memory", Capacity{}, 0.1, 0.71, 95, false, true},
		{"processors not known", Capacity{}, -1, 0.1, 95, false, true},
		{"measured, below", Capacity{Connections: 20_000, Messages: 1000, Source: "bench"}, 0.05, 0.1, 890, true, false},
		{"measured, above", Capacity{Connections: 20_000, Messages: 1000, Source: "bench"}, 0.05, 0.1, 910, true, true},
		{"configured to less than the default", Capacity{Messages: 50, Source: "configuration"}, 0.05, 0.1, 46, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alerts, err := NewAlerts(DefaultRules(), tt.capacity)
			if err != nil {
				t.Fatal(err)
			}
			fired := false
			for s := range 120 {
				now := at.Add(time.Duration(s) * time.Second)
				v := Sample{Node: "n1", At: now, Ready: at.Add(-time.Hour), Started: at.Add(-time.Hour)}
				v.Values.Set(CPU, tt.cpu) // what is negative stays missing
				v.Values.Set(Memory, tt.memory)
				v.Values.Set(MessagesIn, tt.messages)
				v.Values.Set(Connections, 5)
				f := FleetOf(now, []Sample{v}, FleetConfig{})
				if f.Calm() != tt.calm {
					t.Fatalf("calm: got %v, want %v", f.Calm(), tt.calm)
				}
				for _, j := range alerts.Observe(&f) {
					fired = fired || j.Rule.Name == "messages_capacity" && j.After.State == Firing
				}
			}
			if fired != tt.fires {
				t.Errorf("messages_capacity: fired %v, want %v", fired, tt.fires)
			}
		})
	}
	empty := FleetOf(at, nil, FleetConfig{})
	if empty.Calm() {
		t.Error("a fleet that nobody sees is calm")
	}
}
