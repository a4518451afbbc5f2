export {
  type Channel,
  type CodecSpec,
  type DType,
  ERROR_CODES,
  type ErrorCode,
  type Limits,
  type Manifest,
  type Policy,
  parsePolicy,
  type Tensor,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
export { duplexChannel, type StreamPair } from "./channel/duplex.js";
export { type Listener, type ListenOptions, listen } from "./channel/listen.js";
export { memoryChannelPair } from "./channel/memory.js";
export { type DialOptions, dialWebSocket, type Masking, webSocketChannel } from "./channel/websocket.js";
export type { StreamOptions, TransferOptions } from "./options.js";
export { type Origin, type ReceivedModel, type ReceiveOptions, receiveModel } from "./receive-model.js";
export type { ProgressEvent } from "./session/progress.js";
export type { CodecSummary, TransferSummary } from "./session/summary.js";
export type { ReceivedChunk } from "./sink/chunks.js";
export type { EncodedSink, ModelSink, Sink, SinkModel } from "./sink/sink.js";
export type { ReceivedTensor } from "./sink/tensors.js";
export { fromTensors } from "./source/declared.js";
export type { EncodedSource, ModelSource } from "./source/source.js";
export { type TensorMap, type TensorsOptions, type TensorValue, tensorsSource } from "./source/tensors.js";
export { type Destination, type SourceLike, streamModel } from "./stream-model.js";
