/**
 * Streams models between processes, one chunk at a time, in bounded memory. {@link streamModel} sends, {@link receiveModel}
 * receives, {@link transferModel} does both within a process, {@link createModelServer} publishes and takes models by name; sources,
 * sinks and channels are what they are put together of.
 *
 * @module @tensorwire/stream
 */
export {
  type Channel,
  type CodecSpec,
  type DeviceBytes,
  type DeviceData,
  type DType,
  ERROR_CODES,
  type ErrorCode,
  type ErrorFigures,
  type Limits,
  type Manifest,
  type Policy,
  parsePolicy,
  type SourceTensor,
  type Tensor,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
export { type Agent, createAgent } from "./agent/agent.js";
export type { AgentOptions } from "./agent/agent-options.js";
export type { Reference } from "./agent/reference.js";
export { MemoryBudget } from "./budget/memory-budget.js";
export { aggregate, type AggregateSource } from "./aggregate/aggregate.js";
export type { AggregateOptions } from "./aggregate/aggregate-options.js";
export type { AggregateReport, ExcludedClient, TakenClient } from "./aggregate/aggregate-report.js";
export type { ClientSources } from "./aggregate/client-list.js";
export { duplexChannel, type StreamPair } from "./channel/duplex.js";
export {
  HttpChannels,
  type HttpChannelsOptions,
} from "./channel/http-channels.js";
export type { DialWait } from "./channel/dial-wait.js";
export { dialHttp, type HttpDialOptions } from "./channel/http-dial.js";
export { type Listener, listen } from "./channel/listen.js";
export type { ListenOptions } from "./channel/listening-place.js";
export { memoryChannelPair } from "./channel/memory.js";
export { type SharedSocket, shareSocket } from "./channel/shared-socket.js";
export { throttledChannel } from "./channel/throttled.js";
export { dialTcp } from "./channel/tcp.js";
export { dialTls } from "./channel/tls.js";
export { dialUnix } from "./channel/unix.js";
export type { TlsOptions } from "./channel/tls-options.js";
export { type WebStreamPair, webStreamsChannel } from "./channel/web-streams.js";
export { type DialOptions, dialWebSocket, type Masking, webSocketChannel } from "./channel/websocket.js";
export { type ApplyOptions, apply } from "./compute/apply.js";
export { BASE_KEY, type BaseOptions } from "./compute/base.js";
export { type CastDTypes, cast } from "./compute/cast.js";
export { type DeltaOptions, delta } from "./compute/delta.js";
export type { Computed, ComputeOptions } from "./compute/input.js";
export { modelDigest } from "./compute/model-digest.js";
export { type NewNames, rename } from "./compute/rename.js";
export { type SelectOptions, select } from "./compute/select.js";
export type { View } from "./compute/view.js";
export type {
  ConnectionCloseMessage,
  ConnectionOpenMessage,
  EventName,
  Events,
  ObservedConnection,
  ObservedTransfer,
  ServedModel,
  ServerRefuseMessage,
  TransferCheckpointMessage,
  TransferChunkMessage,
  TransferEndMessage,
  TransferPosition,
  TransferResumeMessage,
  TransferRetryMessage,
  TransferStartMessage,
  WaitingBytes,
} from "./diagnostics/events.js";
export type { Logger } from "./diagnostics/logger.js";
export { bearerTokens, type TokenGrant } from "./door/bearer-tokens.js";
export type { PublicPeer } from "./door/gate.js";
export type { Authorize, Principal } from "./door/principal.js";
export {
  type ComparedSide,
  type Comparison,
  compareModels,
  type TensorComparison,
} from "./fidelity/compare.js";
export type { CodecEvaluation } from "./fidelity/codec-trial.js";
export {
  EVALUATED_CODECS,
  type EvaluateOptions,
  type Evaluation,
  evaluateModel,
} from "./fidelity/evaluate.js";
export { openPlotter, type Plotter } from "./fidelity/evaluation-plot.js";
export type { ReadingOptions } from "./fidelity/model-reader.js";
export type { PartsOptions } from "./journal/expiry.js";
export { type OpenArtifact, type OpenArtifactOptions, openArtifact } from "./open-artifact.js";
export type { StreamOptions, TransferOptions } from "./options.js";
export { type Origin, receiveModel } from "./receive-model.js";
export type { ReceiveOptions } from "./receive-options.js";
export type { ReceivedModel } from "./receiving.js";
export { type RemoteSourceOptions, remoteSource } from "./remote/remote-source.js";
export type { ClientStatus } from "./server/arrival.js";
export type { CollectedModel } from "./server/collected-model.js";
export type { Collection, CollectionEvents, CollectionStatus } from "./server/collection.js";
export type { CollectOptions } from "./server/collect-options.js";
export type { ExpectedModel } from "./server/expected-model.js";
export { type RangeOptions, type RemoteArtifactOptions, remoteArtifact } from "./remote/remote-artifact.js";
export {
  createModelServer,
  type ModelServer,
  type ModelServerEvents,
  type Refusal,
} from "./server/model-server.js";
export type { FindModel, Publication, PublishOptions } from "./server/publications.js";
export type { OnReceive, ServedPeer, UploadOrigin } from "./server/reception.js";
export type { Retention } from "./server/retention.js";
export { DEFAULT_SERVER_LIMITS, type ServerLimits } from "./server/server-limits.js";
export type { ModelServerOptions } from "./server/server-options.js";
export type { UploadOptions } from "./server/served-transfer.js";
export type { PublishedModel, PublishedVersion } from "./server/spool.js";
export type { SpooledArtifact } from "./server/spooled-version.js";
export type { SpoolOptions } from "./server/spool-options.js";
export type { ServedAnswer, ServedTransfer } from "./server/visits.js";
export type { ProgressEvent } from "./session/progress.js";
export type { RetryEvent, RetryOptions } from "./session/retry.js";
export type { CodecSummary, TransferSummary } from "./session/summary.js";
export { artifactSink } from "./sink/artifact.js";
export type { ReceivedChunk } from "./sink/chunks.js";
export { rawFileSink } from "./sink/raw-file.js";
export { safetensorsSink } from "./sink/safetensors.js";
export { shardedSafetensorsSink } from "./sink/sharded.js";
export type { EncodedSink, ModelSink, Resumable, Sink, SinkModel } from "./sink/sink.js";
export type { DeviceMemory, ReceivedDeviceTensor } from "./sink/device-memory.js";
export { tensorList } from "./sink/tensor-list.js";
export type { ReceivedTensor } from "./sink/tensors.js";
export {
  type MakeTensor,
  type TfjsDType,
  tensorflowJsList,
  tensorflowJsTensors,
} from "./sink/tfjs-tensors.js";
export { type ArtifactBytes, artifactSource } from "./source/artifact.js";
export type { ByteRange, ByteReader } from "./source/byte-reader.js";
export { fromTensors } from "./source/declared.js";
export {
  fromLinearCodes,
  type LinearCodesOptions,
  type LinearCodesSource,
  type LinearSumsOptions,
  linearCodes,
} from "./source/linear-codes.js";
export type { SourceLike } from "./source/open.js";
export { rawFileSource } from "./source/raw-file.js";
export { safetensorsSource } from "./source/safetensors.js";
export { shardedSafetensorsSource } from "./source/sharded.js";
export type { EncodedSource, ModelSource, OneShotSource, SourceMemory } from "./source/source.js";
export {
  type SourceValue,
  type TensorMap,
  type TensorsOptions,
  type TensorValue,
  tensorsSource,
} from "./source/tensors.js";
export { tensorflowJsSource } from "./source/tfjs.js";
export { type TfjsTensorLike, type TfjsTensors, tensorflowJsTensorsSource } from "./source/tfjs-tensors.js";
export { type Destination, type StreamOptionsOf, streamModel } from "./stream-model.js";
export { type TransferModelOptions, transferModel } from "./transfer-model.js";
