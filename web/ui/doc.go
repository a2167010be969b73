// Package ui draws: the frame of a page, states, tiles and small charts, as templ
// components and SVG.
//
// It fetches nothing and knows no relay: what it shows comes in as values that
// are ready to show. Everything is escaped, and nothing needs inline styles or
// scripts, which the pages' content policy forbids.
package ui
