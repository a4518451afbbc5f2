import { readFileSync } from "node:fs";
import { TensorwireError } from "@tensorwire/core";
import { describe, expect, it } from "vitest";
import { ConnectionTrace } from "../src/diagnostics/connection-trace.js";
import { EVENT_NAMES, listenTo, publish } from "../src/diagnostics/events.js";
import { METRIC_NAMES, METRICS, openTelemetryName, prometheusName } from "../src/diagnostics/metrics.js";
import { TransferTrace } from "../src/diagnostics/transfer-trace.js";
import { memoryChannelPair } from "../src/index.js";

const root = new URL("../../../", import.meta.url);
const file = (path: string) => readFileSync(new URL(path, root), "utf8");
const page = (name: string) => file(`docs/${name}`);

describe("docs/guides/observability.md", () => {
  const guide = page("guides/observability.md");
  const rowsOf = (title: string) => {
    const text = guide.split(`\n## ${title}\n`)[1]!.split("\n## ")[0]!;
    return [...text.matchAll(/^\| (`.*) \|$/gm)].map(([, row]) =>
      row!.split(/\s*\|\s*/).map((cell) => cell.replaceAll("`", "")),
    );
  };

  it("has every event, and what its message has", async () => {
    const heard = new Map<string, object>();
    const listeners = EVENT_NAMES.map((name) => [name, (message: object) => void heard.set(name, message)]);
    const stop = listenTo(Object.fromEntries(listeners));
    const trace = new TransferTrace("send", undefined);
    const error = new TensorwireError("CHANNEL_CLOSED", "cut");
    trace.resume(2);
    trace.checkpoint(3);
    trace.retry(2, 1, error);
    trace.chunk({ tensor: 0, index: 0, ordinal: 0, first: 0, elements: 1, bytes: 4 } as never, {} as never);
    trace.end(error, 0);
    new ConnectionTrace(memoryChannelPair()[0]).close();
    publish("tensorwire:server:refuse", () => ({
      server: {},
      code: "FORBIDDEN",
      reason: "",
      peer: undefined,
    }));
    stop();
    const documented = rowsOf("Events").map(([name, , message]) => [
      name,
      message!
        .replace(/ \([^)]*\)/g, "")
        .split(", ")
        .sort(),
    ]);
    const found = [...heard].map(([name, message]) => [name, Object.keys(message).sort()]);
    expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(found));
    expect(documented.map(([name]) => name)).toEqual(EVENT_NAMES);
  });

  it("has every metric, as Prometheus and as OpenTelemetry spell it", () => {
    const found = rowsOf("Prometheus").map(([name, kind, labels, help]) => [name, kind, labels, help]);
    expect(found).toEqual(
      METRIC_NAMES.map((name) => {
        const { kind, labels, help } = METRICS[name];
        return [prometheusName(name), kind, labels.join(", "), help];
      }),
    );
    const spelt = rowsOf("OpenTelemetry").filter(([, kind]) =>
      ["counter", "gauge", "histogram"].includes(kind!),
    );
    expect(spelt).toEqual(METRIC_NAMES.map((name) => [openTelemetryName(name), METRICS[name].kind]));
  });

  it("has every span and attribute", () => {
    const source = file("packages/stream/src/diagnostics/opentelemetry.ts");
    const attributes = new Set(
      [...source.matchAll(/"(tensorwire\.[a-z_.]+|error\.type)"/g)].map(([, name]) => name!),
    );
    expect(attributes.size).toBeGreaterThan(10);
    for (const name of [...attributes, "tensorwire.send", "tensorwire.receive"])
      expect(guide).toContain(`\`${name}\``);
  });
});
