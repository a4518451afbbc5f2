import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { type DataPoint, MeterProvider, MetricReader } from "@opentelemetry/sdk-metrics";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { TensorwireError } from "@tensorwire/core";
import { afterEach, beforeEach, expect, test } from "vitest";
import { bridgeToOpenTelemetry } from "../src/diagnostics/opentelemetry.js";
import { TransferTrace } from "../src/diagnostics/transfer-trace.js";
import { memoryChannelPair, receiveModel, streamModel, type TensorMap } from "../src/index.js";

class Reader extends MetricReader {
  protected async onForceFlush(): Promise<void> {}
  protected async onShutdown(): Promise<void> {}
}

const exporter = new InMemorySpanExporter();
const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
let reader: Reader;
let stop: () => void;
beforeEach(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  reader = new Reader();
  stop = bridgeToOpenTelemetry({ tracerProvider, meterProvider: new MeterProvider({ readers: [reader] }) });
});
afterEach(() => {
  stop();
  exporter.reset();
  context.disable();
});

const model: TensorMap = { w: { dtype: "F32", shape: [40_000], data: new Float32Array(40_000).fill(0.5) } };
const small = { chunkBytes: 32768, windowBytes: 65536 };
const discarding = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

const spanOf = (name: string): ReadableSpan =>
  exporter.getFinishedSpans().find((span) => span.name === name)!;

async function metric(name: string): Promise<DataPoint<unknown>[]> {
  const { resourceMetrics } = await reader.collect();
  const metrics = resourceMetrics.scopeMetrics.flatMap(({ metrics }) => metrics);
  return metrics.find(({ descriptor }) => descriptor.name === name)?.dataPoints ?? [];
}

test("a span for each transfer, whose parent is what was active when it was called", async () => {
  const [a, b] = memoryChannelPair();
  const tracer = tracerProvider.getTracer("a test");
  const round = tracer.startSpan("round");
  const [summary] = await context.with(trace.setSpan(context.active(), round), () =>
    Promise.all([
      streamModel(model, a, { ...small, codec: "float16" }),
      receiveModel(b, { ...small, to: discarding }).done,
    ]),
  );
  for (const [role, kind] of [
    ["send", SpanKind.PRODUCER],
    ["receive", SpanKind.CONSUMER],
  ] as const) {
    const span = spanOf(`tensorwire.${role}`);
    expect(span.kind).toBe(kind);
    expect(span.parentSpanContext?.spanId).toBe(round.spanContext().spanId);
    expect(span.spanContext().traceId).toBe(round.spanContext().traceId);
    expect(span.status.code).toBe(SpanStatusCode.UNSET);
    expect(span.attributes).toEqual({
      "tensorwire.role": role,
      "tensorwire.channel": "memory",
      "tensorwire.codec": ["float16"],
      "tensorwire.source_bytes": 160_000,
      "tensorwire.wire_bytes": summary.wireBytes,
      "tensorwire.chunks": 5,
      "tensorwire.resumed_bytes": 0,
      "tensorwire.digest": summary.digest,
      "tensorwire.confirmed": true,
    });
  }
});

test("a transfer that fails has the error's code, and no credential in its words", async () => {
  await streamModel(model, "ws://user:hunter2@127.0.0.1:1/?token=hunter2").catch(() => {});
  const span = spanOf("tensorwire.send");
  expect(span.attributes["error.type"]).toBe("CHANNEL_OPEN");
  expect(span.status.code).toBe(SpanStatusCode.ERROR);
  expect(span.status.message).toContain("cannot reach ws://127.0.0.1:1/?…: connect");
  expect(JSON.stringify([span.attributes, span.status, span.events])).not.toContain("hunter2");
});

test("resumes and retries are events of the span, and counted", async () => {
  const transfer = new TransferTrace("receive", undefined);
  transfer.retry(2, 150, new TensorwireError("CHANNEL_CLOSED", "cut"));
  transfer.resume(98_304);
  transfer.checkpoint(10);
  transfer.end(new TensorwireError("IDLE_TIMEOUT", "gone"), 0);
  const { events } = spanOf("tensorwire.receive");
  expect(events.map(({ name, attributes }) => [name, attributes])).toEqual([
    [
      "tensorwire.retry",
      { "tensorwire.attempt": 2, "tensorwire.delay_ms": 150, "error.type": "CHANNEL_CLOSED" },
    ],
    ["tensorwire.resume", { "tensorwire.source_bytes": 98_304 }],
  ]);
  const role = "receive";
  expect(await metric("tensorwire.retries")).toMatchObject([{ attributes: { role }, value: 1 }]);
  expect(await metric("tensorwire.resumed_bytes")).toMatchObject([{ attributes: { role }, value: 98_304 }]);
  expect(await metric("tensorwire.checkpoints")).toMatchObject([{ attributes: { role }, value: 1 }]);
  expect(await metric("tensorwire.transfers")).toMatchObject([
    { attributes: { role, outcome: "IDLE_TIMEOUT" }, value: 1 },
  ]);
});

test("metrics: bytes, chunks, what is in flight and what waits", async () => {
  const [a, b] = memoryChannelPair();
  let go!: () => void;
  const stopped = new Promise<void>((resolve) => {
    go = resolve;
  });
  const { done } = receiveModel(b, { ...small, to: { ...discarding, write: () => stopped } });
  const sending = streamModel(model, a, small);
  const value = async (name: string, role: string): Promise<unknown> =>
    (await metric(name)).find(({ attributes }) => attributes.role === role)?.value;
  while ((await value("tensorwire.queued", "receive")) !== 65_536) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(await value("tensorwire.in_flight", "send")).toBe(65_536);
  expect(await value("tensorwire.transfers_active", "send")).toBe(1);
  go();
  await sending;
  await done;
  for (const role of ["send", "receive"]) {
    expect(await value("tensorwire.source_bytes", role)).toBe(160_000);
    expect(await value("tensorwire.chunks", role)).toBe(5);
    expect(await value("tensorwire.in_flight", role)).toBe(0);
    expect(await value("tensorwire.queued", role)).toBe(0);
  }
  expect(await metric("tensorwire.transfer_duration")).toHaveLength(2);
});

test("what was stopped hears no more", async () => {
  stop();
  const [a, b] = memoryChannelPair();
  const { done } = receiveModel(b, { ...small, to: discarding });
  await streamModel(model, a, small);
  await done;
  expect(exporter.getFinishedSpans()).toEqual([]);
  expect(await metric("tensorwire.chunks")).toEqual([]);
});
