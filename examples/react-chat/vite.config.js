import { fileURLToPath } from "node:url";

import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const below = (path) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  plugins: [react()],
  resolve: {
    alias: {
      // The very file that a gateway serves at /client.js. In a project of your own it lies among your sources: see the README.
      "notification-client": below("../../gateway/src/console/client.js"),
    },
  },
  server: {
    fs: {
      // The development server reads nothing else outside this folder.
      allow: [below("."), below("../../gateway/src/console/client.js")],
    },
  },
});
