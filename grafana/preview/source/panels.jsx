// What stands in a panel, by its type, drawn by Grafana's components.

import {
  dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues,
} from "@grafana/data";
import { BarGauge, BigValue, Table, TimeSeries } from "@grafana/ui";
import { Heatmap } from "./heatmap.jsx";
import { drawAnnotations, drawExemplars } from "./marks.mjs";

const TYPES = { stat: Stat, timeseries: Lines, bargauge: Bars, table: Rows, heatmap: Distribution };

export function Content(properties) {
  const Type = TYPES[properties.panel.type];
  if (!Type) throw new Error(`no such panel in the preview: ${properties.panel.type}`);
  if (!properties.answers) return <Words {...properties} text="asks the trace store, which a preview does not" />;
  return <Type {...properties} />;
}

function Words({ text, width, height, theme }) {
  const style = { width, height, display: "grid", placeItems: "center", textAlign: "center", color: theme.colors.text.secondary };
  return <div style={style}>{text}</div>;
}

/** What a panel says in place of a chart without data. */
function Empty(properties) {
  return <Words {...properties} text={properties.panel.fieldConfig.defaults.noValue ?? "No data"} />;
}

function reduced({ panel, frames, theme }) {
  return getFieldDisplayValues({
    data: frames, fieldConfig: panel.fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (text) => text,
    theme, timeZone: "utc",
  });
}

function Stat(properties) {
  const { panel, theme, width, height } = properties;
  const { colorMode, graphMode, justifyMode, textMode } = panel.options;
  const values = reduced(properties);
  return values.map(({ display }, index) => (
    <BigValue key={index} value={display} width={width / values.length} height={height} theme={theme}
      {...{ colorMode, graphMode, justifyMode, textMode }} />
  ));
}

function Bars(properties) {
  const { panel, theme, width, height } = properties;
  const values = reduced(properties);
  const most = Math.max(...values.map(({ display }) => display.numeric));
  const gap = 8;
  const each = Math.min(panel.options.maxVizHeight, (height - gap * (values.length - 1)) / values.length);
  return values.map(({ display, field }, index) => (
    <div key={index} style={{ marginBottom: gap }}>
      <BarGauge value={display} field={{ ...field, max: field.max ?? most }} width={width} height={each} theme={theme}
        alignmentFactors={getDisplayValueAlignmentFactors(values)} orientation={panel.options.orientation}
        displayMode={panel.options.displayMode} namePlacement={panel.options.namePlacement} showUnfilled={panel.options.showUnfilled} itemSpacing={gap} />
    </div>
  ));
}

function Rows(properties) {
  const { panel, frames, width, height } = properties;
  if (!frames[0]?.length) return <Empty {...properties} />;
  return <Table data={frames[0]} width={width} height={height} cellHeight={panel.options.cellHeight} fieldConfig={panel.fieldConfig} />;
}

function Distribution(properties) {
  const [answer] = properties.answers;
  return answer.series.length ? <Heatmap {...properties} answer={answer} /> : <Empty {...properties} />;
}

function Lines(properties) {
  const { panel, answers, frames, page, theme, width, height } = properties;
  if (!frames.length) return <Empty {...properties} />;
  const times = { from: dateTime(page.start * 1000), to: dateTime(page.end * 1000) };
  const exemplars = answers.flatMap((answer) => answer.exemplars);
  const over = (config) => {
    config.addHook("draw", (chart) => {
      const position = (time) => chart.valToPos(time, "x", true);
      drawAnnotations(chart.ctx, chart.bbox, page.marks, position, theme);
      drawExemplars(chart.ctx, exemplars.map((one) => at(chart, one)), theme.visualization.getColorByName("blue"));
    });
    return null;
  };
  return (
    <TimeSeries frames={frames} structureRev={1} timeRange={{ ...times, raw: times }} timeZone="utc" width={width} height={height}
      legend={panel.options.legend} options={{}}>
      {over}
    </TimeSeries>
  );
}

/** Where an exemplar stands: one beyond the axis stands at its end, as in Grafana. */
function at(chart, { time, value }) {
  const scale = chart.series[1].scale;
  const { min, max } = chart.scales[scale];
  return [chart.valToPos(time * 1000, "x", true), chart.valToPos(Math.min(Math.max(value, min), max), scale, true)];
}
