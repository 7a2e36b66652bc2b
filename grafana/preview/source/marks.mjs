// What Grafana's plugins draw over a chart, and its packages do not contain: annotations and exemplars.

import { colorManipulator } from "@grafana/data";

/** Draws the annotations as dashed lines, with a veil between begin and end of what lasted. */
export function drawAnnotations(context, { left, top, width, height }, marks, position, theme) {
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.setLineDash([5, 5]);
  context.lineWidth = 2;
  for (const { color, spans } of marks) {
    const shade = theme.visualization.getColorByName(color);
    for (const span of spans) {
      const [begin, end] = [position(span.from * 1000), position(span.to * 1000)];
      context.strokeStyle = shade;
      line(context, begin, top, height);
      if (end > begin) {
        line(context, end, top, height);
        context.fillStyle = colorManipulator.alpha(shade, 0.1);
        context.fillRect(begin, top, end - begin, height);
      }
    }
  }
  context.restore();
}

function line(context, at, top, height) {
  context.beginPath();
  context.moveTo(at, top);
  context.lineTo(at, top + height);
  context.stroke();
}

/** Draws exemplars as small diamonds at the points that they are given at. */
export function drawExemplars(context, points, color) {
  context.save();
  context.fillStyle = color;
  for (const [x, y] of points) {
    context.beginPath();
    context.moveTo(x, y - 4);
    context.lineTo(x + 4, y);
    context.lineTo(x, y + 4);
    context.lineTo(x - 4, y);
    context.fill();
  }
  context.restore();
}
