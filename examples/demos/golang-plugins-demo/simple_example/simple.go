// One function, called by name.
package main

import "plugd"

type Simple struct{}

func (Simple) Name() string { return "simple" }

func (Simple) Desc() string { return "Adds two numbers." }

// Add is what the original looked up, and called with 1 and 2.
func Add(x, y int) int { return x + y }

func init() {
	plugd.Register(Simple{})
	plugd.Command("add", "Adds two numbers.", Add, "x", "y")
}

func main() {}
