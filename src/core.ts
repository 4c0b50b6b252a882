/**
 * Everything that needs no Node and no native code: parse, verify, lower, compile to bytes, interpret. Bundles for a
 * browser. The package's main entry adds native execution on top.
 */

export { ArgumentError } from './arguments.ts';
export { type Capture, CaptureError, type CapturePacket, readCapture, writeCapture } from './capture/capture.ts';
export { SwitchyardError } from './errors.ts';
export { InterpreterError } from './interpreter/errors.ts';
export { assemble } from './isa/assembler.ts';
export { decode, encode } from './isa/codec.ts';
export { disassemble } from './isa/disassembler.ts';
export { IsaError } from './isa/errors.ts';
export type { Instruction, WireInstruction } from './isa/instruction.ts';
export { type DisassembledInstruction, disassembleArm64 } from './jit/arm64/disassemble.ts';
export type { Code, CompiledTailCall, RelocationTarget, TailCallMode } from './jit/shared/code.ts';
export { CompileError } from './jit/shared/errors.ts';
export { symbolName } from './jit/shared/object-file.ts';
export type { TailCallChoices, TailCallOverrides, TailCallPresets } from './jit/shared/tail-call-choices.ts';
export { LoweringError } from './lowering/errors.ts';
export type { Lowered } from './lowering/lowered.ts';
export { ArenaMap } from './maps/arena-map.ts';
export {
  deleteBatch,
  type LookedUp,
  lookupAndDeleteBatch,
  lookupBatch,
  updateBatch,
} from './maps/batch.ts';
export { type Errno, MapError } from './maps/errors.ts';
export type { BpfMap } from './maps/map.ts';
export { UpdateFlag } from './maps/map.ts';
export {
  type AttachOptions,
  PerfEventArray,
  type PerfReader,
  type PerfSample,
} from './maps/perf-event-array.ts';
export { BloomFilter, QueueMap } from './maps/pushed-map.ts';
export { RingBuffer } from './maps/ring-buffer.ts';
export { type RawMap, type SetMode, type TypedMap, typedMap } from './maps/typed-map.ts';
export { type UserRecord, UserRingBuffer } from './maps/user-ring-buffer.ts';
export { MemoryError } from './memory/errors.ts';
export { type Btf, parseBtf } from './object/btf.ts';
export { BtfCodec, btfCodec, decodeValue } from './object/btf-codec.ts';
export type { BtfValue } from './object/btf-scalars.ts';
export { ObjectError } from './object/errors.ts';
export { type ProgramFromInstructions, programFromInstructions } from './object/from-instructions.ts';
export { type GlobalVariable, globalVariables, withGlobals } from './object/globals.ts';
export { mapDifference } from './object/map-difference.ts';
export { parseObject } from './object/parse.ts';
export type { Collection, LineInfo, MapSpec, MapType, ProgramSpec, ProgramType } from './object/spec.ts';
export { type ModuleOptions, typescriptModule } from './object/typescript-module.ts';
export {
  type CompileCollectionOptions,
  type CompiledCollection,
  type CompiledUnit,
  compileCollection,
} from './runtime/ahead-of-time.ts';
export type { BackendName } from './runtime/backend.ts';
export { RuntimeError } from './runtime/errors.ts';
export type {
  PreflightOptions,
  SlotChanges,
  Transaction,
  TransactionChanges,
  TransactionOptions,
} from './runtime/generations.ts';
export { createBufferHost } from './runtime/host.ts';
export type { LoadedGlobal, LoadedObject, SlotChange } from './runtime/loaded-object.ts';
export type { NextHop, Packet, PacketOutcome, RedirectRecord } from './runtime/packets.ts';
export type { ProgArraySlots } from './runtime/prog-array-slots.ts';
export type { Program } from './runtime/program.ts';
export type { AsyncReplayOptions, ReplayOptions, ReplayResult, RunResult } from './runtime/replay.ts';
export type { Interface, Neighbour, Route, Routes, RouteTable } from './runtime/routes.ts';
export { type LoadOptions, Runtime, type RuntimeOptions } from './runtime/runtime.ts';
export type { Preflight } from './runtime/slot-graph.ts';
export type { Socket, SocketAddress, SocketOptions, SocketTable, TcpMembers } from './runtime/sockets.ts';
export {
  type CompileProgramOptions,
  compileProgram,
  lineAt,
  lowerProgram,
  type TailCallSiteInfo,
  tailCallSites,
  verifyProgram,
} from './runtime/stages.ts';
export {
  newMisses,
  type PredictedMiss,
  type SlotRange,
  type TailCallGraph,
  type TailCallGraphInput,
  type TailCallGraphSite,
  tailCallGraph,
} from './runtime/tail-call-graph.ts';
export type { TailCallHit, TailCallMiss, TailCallMissCause } from './runtime/tail-call-misses.ts';
export { TypedObject } from './runtime/typed-object.ts';
export { VerifierError } from './verifier/errors.ts';
export type { Facts, TailCallSite, Verified } from './verifier/facts.ts';
