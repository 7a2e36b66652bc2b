// Asks a Prometheus what a dashboard asks, as Grafana would: variables, intervals, exemplars and annotations substituted
// and sampled in its way.

import { place, WIDTH } from "./layout.mjs";

// Grafana rounds an interval to one of these numbers of seconds.
const INTERVALS = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** The dashboard with rows that repeat spread out, the time it shows, and the answers to every panel by its id. */
export async function answers(dashboard, { prometheus, sources, from, to }) {
  const end = Number(to ?? Date.now() / 1000);
  const start = Number(from ?? end - seconds(dashboard.time.from.replace("now-", "")));
  const scrape = seconds(sources.match(/timeInterval: (\w+)/)[1]);
  const source = new Source(prometheus, { start, end, scrape });
  const chosen = Object.fromEntries(dashboard.templating.list.map((variable) => [variable.name, choice(variable)]));
  const panels = await spreadOut(dashboard, source, chosen);
  const asked = {};
  for (const panel of panels.filter((panel) => panel.targets && panel.datasource.type === "prometheus")) {
    const variables = { ...chosen, ...panel.variables };
    asked[panel.id] = await Promise.all(panel.targets.map((target) => source.target(target, place(panel.gridPos).width, variables)));
  }
  const marks = await Promise.all(dashboard.annotations.list.map((one) => source.annotation(one, chosen)));
  return { dashboard: { ...dashboard, panels }, start, end, answers: asked, marks };
}

/** The panels in their places, with those of a collapsed row below it, and for each value of what it repeats. */
async function spreadOut(dashboard, source, chosen) {
  const panels = [];
  let below = 0;
  for (const panel of dashboard.panels) {
    const { panels: inside = [], repeat, ...row } = panel;
    const variable = dashboard.templating.list.find((one) => one.name === repeat);
    const repetitions = variable ? await source.values(variable, chosen) : [undefined];
    const top = row.gridPos.y;
    const height = Math.max(0, ...inside.map((one) => one.gridPos.y + one.gridPos.h - top - 1)) + 1;
    for (const [index, value] of repetitions.entries()) {
      const place = (one) => ({ ...one.gridPos, y: one.gridPos.y + below + index * height });
      const title = (row.title ?? "").replace(`$${repeat}`, value);
      panels.push({ ...row, title, gridPos: place(row) });
      const variables = repeat && { [repeat]: value.replaceAll(/[.\\]/g, "\\\\$&") };
      inside.forEach((one) => panels.push({ ...one, id: `${one.id} ${value ?? ""}`, variables, gridPos: place(one) }));
    }
    if (row.type === "row") below += (repetitions.length - 1) * height + (inside.length ? height - 1 : 0);
  }
  return panels;
}

class Source {
  constructor(address, { start, end, scrape }) {
    Object.assign(this, { address, start, end, scrape });
  }

  async ask(path, parameters) {
    const response = await fetch(`${this.address}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const answer = await response.json();
    if (answer.status !== "success") throw new Error(`${parameters.query}: ${answer.error}`);
    return answer.data;
  }

  /** The step at which a panel of so many pixels asks, in seconds. */
  step(points, least = this.scrape) {
    const exact = (this.end - this.start) / points;
    return Math.max(least, INTERVALS.find((interval) => interval >= exact) ?? INTERVALS.at(-1));
  }

  substituted(expression, step, variables) {
    const values = {
      ...variables,
      __rate_interval: `${Math.max(step + this.scrape, 4 * this.scrape)}s`,
      __interval: `${step}s`,
      __range: `${Math.ceil(this.end - this.start)}s`,
    };
    return expression.replaceAll(/\$\{?(\w+)\}?/g, (written, name) => values[name] ?? written);
  }

  /** The times that are asked for: multiples of the step, so that a page which is drawn again shows the same. */
  bounds(step) {
    const aligned = (time) => Math.floor(time / step) * step;
    return { begin: aligned(this.start), end: aligned(this.end) };
  }

  range(query, step) {
    const { begin, end } = this.bounds(step);
    return this.ask("query_range", { query, start: begin, end, step });
  }

  async target(target, points, variables) {
    const step = this.step(points);
    const query = this.substituted(target.expr, step, variables);
    const times = { query, start: this.start, end: this.end };
    const [{ result }, exemplars] = await Promise.all([
      target.instant ? this.ask("query", { query, time: this.end }) : this.range(query, step),
      target.exemplar ? this.ask("query_exemplars", times) : [],
    ]);
    return { target, step, ...this.bounds(step), series: result, exemplars: sampled(exemplars, step) };
  }

  async annotation({ name, iconColor, target, useValueForTime }, variables) {
    const step = this.step(WIDTH, Math.max(this.scrape, seconds(target.interval)));
    const { result } = await this.range(this.substituted(target.expr, step, variables), step);
    const spans = result.flatMap(({ values }) => (useValueForTime
      ? [...new Set(values.map(([, value]) => Number(value) / 1000))].map((time) => ({ from: time, to: time }))
      : stretches(values, step)));
    return { name, color: iconColor, spans: spans.filter(({ to }) => to >= this.start) };
  }

  async values(variable, chosen) {
    const [, selector, label] = variable.definition.match(/^label_values\((.*), (\w+)\)$/);
    const match = this.substituted(selector, 0, chosen);
    return this.ask(`label/${label}/values`, { "match[]": match, start: this.start, end: this.end });
  }
}

/** What is chosen in a variable when the page is opened, as it stands in a query. */
function choice({ current, allValue }) {
  const values = [current.value].flat();
  return values.includes("$__all") ? allValue : values.join("|");
}

/** The times in which a series was there without a hole. */
function stretches(values, step) {
  const found = [];
  for (const [time, value] of values) {
    if (Number(value) === 0) continue;
    if (found.length && time - found.at(-1).to <= step) found.at(-1).to = time;
    else found.push({ from: time, to: time });
  }
  return found;
}

/** Of the exemplars of each step those that stand apart by two standard deviations, as Grafana's data source keeps them. */
function sampled(series, step) {
  const all = series.flatMap(({ exemplars }) => exemplars.map((one) => ({ time: one.timestamp, value: Number(one.value) })));
  const mean = all.reduce((sum, one) => sum + one.value, 0) / all.length;
  const apart = 2 * Math.sqrt(all.reduce((sum, one) => sum + (one.value - mean) ** 2, 0) / Math.max(1, all.length - 1));
  const lowest = new Map();
  return all.sort((one, other) => other.value - one.value).filter((one) => {
    const key = Math.floor(one.time / step);
    const stands = !(lowest.get(key) - one.value <= apart);
    if (stands) lowest.set(key, one.value);
    return stands;
  });
}

function seconds(text) {
  const [, number, unit] = text.match(/^(\d+)([smhd])$/);
  return Number(number) * UNITS[unit];
}
