// Zooming on the page of trends: the charts that the server drew are replaced by
// ones that follow the mouse, with one crosshair through all of them. What is
// dragged becomes the range in the address. Without it the page has its links.
"use strict";
(() => {
  const place = document.getElementById("zoom"), drawn = document.getElementById("trends-chart");
  const button = document.getElementById("zoomer");
  if (!place || !button || !window.uPlot) return;
  button.hidden = false;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
  const probe = (name) => {
    const span = document.createElement("span");
    span.style.color = "var(" + name + ")";
    document.body.append(span);
    const value = getComputedStyle(span).color;
    span.remove();
    return value || colour(name);
  };
  const panels = [
    ["Connections", ["connections"]], ["Messages per second", ["messages_in", "messages_out"]],
    ["Delivery latency, ms", ["delivery_p95_ms", "delivery_p50_ms"]], ["CPU, %", ["cpu_max_percent", "cpu_percent"]],
    ["Memory, %", ["memory_percent"]], ["Error rate, %", ["error_percent"]], ["Waiting in queues, bytes", ["queue_bytes"]],
    ["New connections per second", ["accepted_per_s", "refused_per_s"]], ["API p95, ms", ["api_p95_ms"]],
  ];

  const zoomed = (u) => {
    const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
    if (u.select.width < 8) return;
    const url = new URL(location.href);
    url.searchParams.delete("range");
    url.searchParams.set("from", new Date(from * 1000).toISOString().slice(0, 19) + "Z");
    url.searchParams.set("to", new Date(to * 1000).toISOString().slice(0, 19) + "Z");
    location.assign(url);
  };

  const draw = (rows) => {
    const ink = probe("--ink3"), grid = probe("--line"), lines = [probe("--data"), probe("--data2")];
    const at = rows.map((r) => Date.parse(r.at) / 1000);
    const sync = uPlot.sync("trends"), width = place.clientWidth;
    const all = panels.map(([title, columns]) => new uPlot({
      title, width, height: 160, cursor: { sync: { key: sync.key }, drag: { x: true, y: false, setScale: false } },
      axes: [{ stroke: ink, grid: { stroke: grid, width: 1 } }, { stroke: ink, grid: { stroke: grid, width: 1 }, size: 56 }],
      series: [{}, ...columns.map((c, i) => ({ label: c, stroke: lines[i], width: 1.5 }))],
      hooks: { setSelect: [zoomed] },
    }, [at, ...columns.map((c) => rows.map((r) => r[c]))], place));
    addEventListener("resize", () => all.forEach((u) => u.setSize({ width: place.clientWidth, height: 160 })));
  };

  button.addEventListener("click", async () => {
    button.disabled = true;
    const answer = await fetch(place.dataset.source, { credentials: "same-origin" });
    if (!answer.ok) { button.textContent = "The numbers could not be read"; return; }
    const { rows } = await answer.json();
    place.hidden = false;
    drawn.remove();
    button.hidden = true;
    draw(rows);
  });
})();
