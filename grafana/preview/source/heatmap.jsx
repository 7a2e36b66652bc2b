// A histogram over time. Grafana's heatmap is not among its packages: this one is ours, of rectangles on a canvas, with the
// colours that d3 has for the scheme and the exponent that the panel asks for.

import { dateTimeFormat, formattedValueToString, getValueFormat } from "@grafana/data";
import { interpolateOranges } from "d3-scale-chromatic";
import { useEffect, useRef } from "react";
import { drawAnnotations, drawExemplars } from "./marks.mjs";

const LEFT = 60;
const BOTTOM = 22;
const LEGEND = 40;
const SCHEMES = { Oranges: interpolateOranges };

export function Heatmap({ panel, answer, page, theme, width, height }) {
  const canvas = useRef(null);
  useEffect(() => draw(canvas.current.getContext("2d"), { panel, answer, page, theme, width, height }));
  return <canvas ref={canvas} width={width} height={height} />;
}

function draw(context, { panel, answer, page, theme, width, height }) {
  const { options } = panel;
  const rows = buckets(answer.series);
  const box = { left: LEFT, top: 6, width: width - LEFT - 8, height: height - 6 - BOTTOM - LEGEND };
  const x = (time) => box.left + ((time / 1000 - page.start) / (page.end - page.start)) * box.width;
  const y = (row) => box.top + box.height * (1 - row / rows.length);
  const cells = rows.flatMap(({ counts }, row) => [...counts].map(([time, count]) => ({ time, row, count })));
  const shown = cells.filter(({ count }) => count > (options.filterValues?.le ?? 0));
  const most = Math.max(...shown.map(({ count }) => count));
  const least = Math.min(...shown.map(({ count }) => count));
  const color = (count) => shade(options.color, most > least ? (count - least) / (most - least) : 1, theme);

  context.clearRect(0, 0, width, height);
  context.font = `12px ${theme.typography.fontFamily}`;
  axes(context, { rows, box, page, theme, y, unit: getValueFormat(options.yAxis.unit) });
  for (const { time, row, count } of shown) {
    // Grafana draws a cell to the left of its time: the counts of the interval that ends there.
    const [left, right] = [x((time - answer.step) * 1000), x(time * 1000)];
    context.fillStyle = color(count);
    context.fillRect(Math.max(left, box.left), y(row + 1), right - Math.max(left, box.left) - options.cellGap, y(row) - y(row + 1) - options.cellGap);
  }
  drawAnnotations(context, box, page.marks, x, theme);
  const inRow = ({ value }) => rows.findIndex(({ edge }) => value <= edge);
  const points = answer.exemplars.filter((one) => one.time >= page.start && inRow(one) >= 0);
  drawExemplars(context, points.map((one) => [x(one.time * 1000), (y(inRow(one)) + y(inRow(one) + 1)) / 2]), options.exemplars.color);
  if (options.legend.show) legend(context, { box, height, least, most, color, theme });
}

/** A row for each bucket, from the lowest, with the counts of its own: those of Prometheus contain those below them. */
function buckets(series) {
  const edge = ({ metric }) => (metric.le === "+Inf" ? Infinity : Number(metric.le));
  const sorted = [...series].sort((one, other) => edge(one) - edge(other));
  const upTo = sorted.map(({ values }) => new Map(values.map(([time, count]) => [time, Number(count)])));
  return sorted.map((one, index) => ({
    edge: edge(one),
    counts: new Map([...upTo[index]].map(([time, count]) => [time, count - (upTo[index - 1]?.get(time) ?? 0)])),
  }));
}

function shade({ scheme, exponent, reverse, steps }, share, theme) {
  const stepped = Math.round(share ** exponent * (steps - 1)) / (steps - 1);
  // On a dark page Grafana turns a scheme from light to dark around.
  const turned = theme.isDark !== reverse ? 1 - stepped : stepped;
  return SCHEMES[scheme](turned);
}

function axes(context, { rows, box, page, theme, y, unit }) {
  context.fillStyle = theme.colors.text.primary;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const every = Math.ceil((rows.length * 16) / box.height);
  rows.forEach(({ edge }, row) => {
    if (row % every === 0) context.fillText(edge === Infinity ? "+Inf" : formattedValueToString(unit(edge)), box.left - 8, y(row + 1));
  });
  context.textAlign = "center";
  context.textBaseline = "top";
  const span = page.end - page.start;
  const step = [10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400].find((one) => (span / one) * 70 < box.width) ?? 86400;
  for (let time = Math.ceil(page.start / step) * step; time <= page.end; time += step) {
    const label = dateTimeFormat(time * 1000, { format: step < 60 ? "HH:mm:ss" : "HH:mm", timeZone: "utc" });
    context.fillText(label, box.left + ((time - page.start) / span) * box.width, box.top + box.height + 6);
  }
}

function legend(context, { box, height, least, most, color, theme }) {
  const width = 300;
  const top = height - 32;
  for (let at = 0; at < width; at++) {
    context.fillStyle = color(least + (at / (width - 1)) * (most - least));
    context.fillRect(box.left + at, top, 1, 10);
  }
  context.fillStyle = theme.colors.text.primary;
  context.textBaseline = "top";
  const short = getValueFormat("short");
  [least, most].forEach((value, index) => {
    context.textAlign = index ? "right" : "left";
    context.fillText(formattedValueToString(short(value, 1)), box.left + index * width, top + 13);
  });
}
