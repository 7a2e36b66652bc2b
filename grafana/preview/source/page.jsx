// A dashboard as one page: what the reader would see after scrolling through all of it.

import "@fontsource/inter/400.css";
import "@fontsource/inter/500.css";
import "uplot/dist/uPlot.min.css";
import { createTheme, dateTimeFormat, renderMarkdown } from "@grafana/data";
import { GlobalStyles, PanelChrome, ThemeContext } from "@grafana/ui";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { frames } from "./frames.mjs";
import { CELL, HEADER, MARGIN, place, WIDTH } from "./layout.mjs";
import { Content } from "./panels.jsx";

window.__grafana_public_path__ = "/public/";

const say = (what) => fetch("/", { method: "POST", body: what });
addEventListener("error", ({ message }) => say(message));
addEventListener("unhandledrejection", ({ reason }) => say(String(reason)));

const asked = new URLSearchParams(location.search);
const page = await (await fetch(`/data/${asked.get("name")}`)).json();
const theme = createTheme({ colors: { mode: page.dashboard.style } });
await Promise.all(["400 12px Inter", "500 12px Inter"].map((font) => document.fonts.load(font)));
const panels = await Promise.all(page.dashboard.panels.map(async (panel) => {
  const answers = page.answers[panel.id];
  return { panel, answers, frames: answers && (await frames(panel, answers, theme)), place: place(panel.gridPos) };
}));

function Header() {
  const time = (seconds) => dateTimeFormat(seconds * 1000, { format: "YYYY-MM-DD HH:mm:ss", timeZone: "utc" });
  const style = { display: "flex", gap: 24, alignItems: "center", height: HEADER, margin: `0 ${MARGIN}px` };
  const chosen = page.dashboard.templating.list.map(({ name, label, current }) => `${label ?? name}: ${[current.text].flat().join(", ")}`);
  return (
    <div style={style}>
      <strong style={{ fontSize: 18 }}>{page.dashboard.title}</strong>
      <span style={{ color: theme.colors.text.secondary }}>{chosen.join(" · ")}</span>
      <span style={{ marginLeft: "auto" }}>{`${time(page.start)} to ${time(page.end)} UTC`}</span>
      <span style={{ color: theme.colors.warning.text }}>preview, not Grafana</span>
    </div>
  );
}

function Row({ title }) {
  return <div style={{ font: "500 16px Inter", lineHeight: `${CELL}px` }}>{`⌄ ${title}`}</div>;
}

function Dashboard() {
  useEffect(() => void say("drawn"), []);
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {/* The band that is wanted is what the window shows. */}
      <div style={{ position: "absolute", left: 0, width: WIDTH, top: -Number(asked.get("top")) }}>
      <Header />
      {panels.map(({ panel, answers, frames, place }) => (
        <div key={panel.id} style={{ position: "absolute", ...place }}>
          {panel.type === "row" ? <Row title={panel.title} /> : (
            <PanelChrome title={panel.title} description={renderMarkdown(panel.description)} width={place.width} height={place.height}>
              {(width, height) => <Content {...{ panel, answers, frames, page, theme, width, height }} />}
            </PanelChrome>
          )}
        </div>
      ))}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById("root")).render(<Dashboard />);
