// Values under the pointer: the nearest point of each line at that step.
for (const svg of document.querySelectorAll("svg[data-series]")) {
  const series = JSON.parse(svg.dataset.series);
  const figure = svg.closest("figure");
  const tip = figure.appendChild(Object.assign(document.createElement("div"), { className: "tip" }));
  const pointer = svg.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "line"));
  pointer.setAttribute("class", "pointer");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const nearest = series.map(({ name, points }) => {
      const point = points.reduce((best, p) => (Math.abs(p[2] - at) < Math.abs(best[2] - at) ? p : best));
      return { name, point };
    });
    const main = nearest.reduce((best, n) => (Math.abs(n.point[2] - at) < Math.abs(best.point[2] - at) ? n : best)).point;
    tip.textContent = [`step ${main[0].toLocaleString()}`, ...nearest.map(({ name, point }) => `${name}: ${+point[1].toPrecision(5)}`)].join("\n");
    const bottom = svg.viewBox.baseVal.height - 34;
    for (const [name, value] of Object.entries({ x1: main[2], x2: main[2], y1: 12, y2: bottom })) pointer.setAttribute(name, value);
    pointer.style.display = tip.style.display = "block";
    const left = (main[2] / svg.viewBox.baseVal.width) * box.width;
    tip.style.left = left > box.width / 2 ? "auto" : `${left + 12}px`;
    tip.style.right = left > box.width / 2 ? `${box.width - left + 12}px` : "auto";
    tip.style.top = `${svg.offsetTop + 16}px`;
  });
  svg.addEventListener("pointerleave", () => { pointer.style.display = tip.style.display = "none"; });
}
