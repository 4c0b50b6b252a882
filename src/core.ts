/**
 * Everything that needs no Node and no native code: parse, verify, lower, compile to bytes, interpret. Bundles for a
 * browser. The package's main entry adds native execution on top.
 */
export { SwitchyardError } from './errors.ts';
export { assemble } from './isa/assembler.ts';
export { decode, encode } from './isa/codec.ts';
export { disassemble } from './isa/disassembler.ts';
export type { Instruction, WireInstruction } from './isa/instruction.ts';
export type { BpfMap } from './maps/map.ts';
export { UpdateFlag } from './maps/map.ts';
export { parseObject } from './object/parse.ts';
export type { Collection, LineInfo, MapSpec, MapType, ProgramSpec, ProgramType } from './object/spec.ts';
export { createBufferHost } from './runtime/host.ts';
export type { Packet, PacketOutcome, RedirectRecord } from './runtime/packets.ts';
export type { ProgArraySlots } from './runtime/prog-array-slots.ts';
export type { Program, TailCallSiteInfo } from './runtime/program.ts';
export type { AsyncReplayOptions, ReplayOptions, ReplayResult, RunResult } from './runtime/replay.ts';
export { LoadedObject, type LoadOptions, Runtime, type RuntimeOptions } from './runtime/runtime.ts';
export { verify } from './verifier/verify.ts';
