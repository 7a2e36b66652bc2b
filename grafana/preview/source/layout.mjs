// Where panels stand, in pixels: Grafana's grid of 24 columns, in a window of one width.

export const WIDTH = 1600;
export const MARGIN = 16;
export const HEADER = 52;
export const CELL = 30;
const COLUMNS = 24;
const GAP = 8;
// Higher pictures are cut where a row begins: nobody reads them, and not every viewer shows them.
const MAX_HEIGHT = 3600;

export function place({ x, y, w, h }) {
  const column = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;
  return {
    left: MARGIN + x * (column + GAP), top: HEADER + y * (CELL + GAP),
    width: w * column + (w - 1) * GAP, height: h * CELL + (h - 1) * GAP,
  };
}

/** The bands, from top to bottom, into which a page is cut: as few as may be, about equal, each beginning with a row. */
export function bands(panels) {
  const places = panels.map((panel) => ({ ...place(panel.gridPos), row: panel.type === "row" }));
  const height = Math.max(...places.map((one) => one.top + one.height)) + GAP;
  const rows = places.filter(({ row }) => row).map(({ top }) => top - GAP / 2);
  const count = Math.ceil(height / MAX_HEIGHT);
  const nearest = (wanted) => rows.reduce((best, top) => (Math.abs(top - wanted) < Math.abs(best - wanted) ? top : best));
  const cuts = [0, ...Array.from({ length: count - 1 }, (_, index) => nearest(((index + 1) * height) / count))];
  return cuts.map((top, index) => ({ top, height: (cuts[index + 1] ?? height) - top }));
}
