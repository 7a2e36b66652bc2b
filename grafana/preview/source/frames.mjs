// From what Prometheus answered to the data frames that Grafana's components draw, with the configuration of their fields.

import {
  FieldType, getDisplayProcessor, getFieldDisplayName, standardTransformers, standardTransformersRegistry, transformDataFrame,
} from "@grafana/data";
import { firstValueFrom } from "rxjs";

// The transformations that dashboards use; Grafana registers them all when it starts.
standardTransformersRegistry.setInit(() =>
  [standardTransformers.joinByFieldTransformer, standardTransformers.organizeFieldsTransformer, standardTransformers.mergeTransformer]
    .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation })));

/** The frames of a panel: a series each, or for a table a query each, transformed and configured. */
export async function frames(panel, answers, theme) {
  const tables = panel.targets[0].format === "table";
  const raw = answers.flatMap((answer) => (tables ? [table(answer)] : answer.series.map((one) => series(one, answer))));
  const context = { interpolate: (text) => text };
  const found = panel.transformations?.length
    ? await firstValueFrom(transformDataFrame(panel.transformations, raw, context)) : raw;
  configure(found, panel.fieldConfig, theme);
  return found;
}

function series({ metric, values, value }, { target, step, begin, end }) {
  const samples = values ? withHoles(values, { step, begin, end }) : [value];
  const name = target.legendFormat === "__auto" ? undefined
    : target.legendFormat.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? "");
  return {
    refId: target.refId,
    length: samples.length,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: samples.map(([time]) => time * 1000) },
      {
        name: "Value", type: FieldType.number, labels: metric, config: { displayNameFromDS: name },
        values: samples.map(([, number]) => (number === null ? null : Number(number))),
      },
    ],
  };
}

/** A sample for each step, without a value where Prometheus had none: a line has a hole there. */
function withHoles(values, { step, begin, end }) {
  const known = new Map(values);
  const steps = Math.round((end - begin) / step) + 1;
  return Array.from({ length: steps }, (_, index) => begin + index * step).map((time) => [time, known.get(time) ?? null]);
}

function table({ target, series: all }) {
  const labels = [...new Set(all.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return {
    refId: target.refId,
    length: all.length,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: all.map(({ value }) => value[0] * 1000) },
      ...labels.map((label) => (
        { name: label, type: FieldType.string, config: {}, values: all.map(({ metric }) => metric[label] ?? "") })),
      { name: `Value #${target.refId}`, type: FieldType.number, config: {}, values: all.map(({ value }) => Number(value[1])) },
    ],
  };
}

/** Defaults, then the overrides of fields that they name, then what Grafana derives from both. */
function configure(all, { defaults, overrides }, theme) {
  let seriesIndex = 0;
  for (const frame of all) {
    for (const field of frame.fields) {
      const config = { ...structuredClone(defaults), ...field.config };
      for (const { matcher, properties } of overrides) {
        if (matches(matcher, getFieldDisplayName(field, frame, all))) properties.forEach((one) => set(config, one));
      }
      field.config = config;
      field.state = { ...field.state, seriesIndex: field.type === FieldType.number ? seriesIndex++ : undefined };
      field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
    }
  }
}

function matches({ id, options }, name) {
  if (id === "byName") return name === options;
  if (id === "byRegexp") return new RegExp(options.replace(/^\/(.*)\/$/, "$1")).test(name);
  throw new Error(`no such matcher in the preview: ${id}`);
}

/** A property such as `custom.lineStyle`. */
function set(config, { id, value }) {
  const path = id.split(".");
  const last = path.pop();
  const inside = path.reduce((object, key) => (object[key] ??= {}), config);
  inside[last] = value;
}
