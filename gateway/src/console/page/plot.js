// @ts-check
/**
 * A small plot of the last two minutes: its largest value and the current one stand beside it as text.
 */

import { copyOf, named } from "./elements.js";
import { number } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

/** How far back it shows, in milliseconds. */
const WINDOW_MS = 120_000;

/** Beyond it the line is broken: nobody asked in between. */
const LONGEST_STEP_MS = 5_000;

/** In units of its own; the page stretches it. */
const WIDTH = 240;
const HEIGHT = 40;

/** One value over time. */
export class Plot {
  /** For the page to place. */
  element = copyOf("plot-template");
  #name;
  #unit;
  #drawing = document.createElementNS(SVG, "svg");
  #area = document.createElementNS(SVG, "path");
  #line = document.createElementNS(SVG, "path");
  #most = named(this.element, "plot-most", HTMLElement);
  #value = named(this.element, "plot-value", HTMLElement);
  /** Oldest first. @type {{at: number, value: number}[]} */
  #points = [];

  /**
   * @param {string} name
   * @param {string} [unit] behind the value, such as `/s`
   */
  constructor(name, unit = "") {
    this.#name = name;
    this.#unit = unit;
    named(this.element, "plot-name", HTMLElement).textContent = name;
    this.#drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.#drawing.setAttribute("preserveAspectRatio", "none");
    this.#drawing.setAttribute("role", "img");
    this.#area.setAttribute("class", "area");
    this.#line.setAttribute("class", "stroke");
    this.#drawing.append(this.#area, this.#line);
    this.element.append(this.#drawing);
    this.#draw();
  }

  /** @param {number} value what it is now */
  add(value) {
    const at = performance.now();
    this.#points.push({ at, value });
    while (this.#points[0] && this.#points[0].at < at - WINDOW_MS) this.#points.shift();
    this.#draw();
  }

  /** What was is another thing's. */
  clear() {
    this.#points = [];
    this.#draw();
  }

  #draw() {
    const last = this.#points.at(-1);
    const most = Math.max(0, ...this.#points.map(({ value }) => value));
    const current = last ? `${number(last.value)}${this.#unit}` : "–";
    this.#value.textContent = current;
    this.#most.textContent = last ? `max ${number(most)}` : "";
    const spoken = last ? `now ${current}, at most ${number(most)}` : "no value yet";
    this.#drawing.setAttribute("aria-label", `${this.#name}, last two minutes: ${spoken}`);
    const runs = this.#runs(last?.at ?? 0, most);
    this.#line.setAttribute("d", runs.map((run) => `M${run.join("L")}`).join(""));
    const filled = runs.map((run) => `M${across(run[0])},${HEIGHT}L${run.join("L")}L${across(run.at(-1))},${HEIGHT}Z`);
    this.#area.setAttribute("d", filled.join(""));
  }

  /**
   * The points as places in the drawing, broken where nobody asked.
   * @param {number} now
   * @param {number} most
   */
  #runs(now, most) {
    /** @type {string[][]} */
    const runs = [];
    let before = Number.NEGATIVE_INFINITY;
    for (const { at, value } of this.#points) {
      if (at - before > LONGEST_STEP_MS) runs.push([]);
      before = at;
      const right = WIDTH * (1 - (now - at) / WINDOW_MS);
      // A line of half its width is left above and below, so that nothing is cut off.
      const down = HEIGHT - 1.5 - (most === 0 ? 0 : value / most) * (HEIGHT - 3);
      runs.at(-1)?.push(`${right.toFixed(1)},${down.toFixed(1)}`);
    }
    // A single point is no line.
    for (const run of runs) if (run.length === 1) run.push(...run);
    return runs;
  }
}

/** How far right a place is. @param {string | undefined} place */
function across(place) {
  return place?.split(",")[0] ?? "0";
}
