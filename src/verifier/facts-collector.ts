/** Gathers, while paths are walked, what the rooms below rely on; see `facts.ts` for what each means. */
import type { MapSpec, ProgramSpec } from '../object/spec.ts';
import type { Cfg } from './cfg.ts';
import type { HelperCallFact, MemoryKind, TailCallSite } from './facts.ts';

interface TailCallRecord {
  readonly maps: Set<string>;
  min: number;
  max: number;
  fits32: boolean;
}

interface HelperRecord {
  readonly helper: number;
  map: string | undefined;
  constantKey: number | undefined;
}

const KINDS: readonly (MemoryKind | undefined)[] = [
  undefined,
  'context',
  'stack',
  'mapValue',
  'packet',
  'packetMeta',
  'raw',
  'memory',
  'arena',
  'socket',
  'sockCommon',
  'tcpSocket',
  'untrusted',
  'untrustedStructure',
];
const CODES: Readonly<Record<MemoryKind, number>> = {
  context: 1,
  stack: 2,
  mapValue: 3,
  packet: 4,
  packetMeta: 5,
  raw: 6,
  memory: 7,
  arena: 8,
  socket: 9,
  sockCommon: 10,
  tcpSocket: 11,
  untrusted: 12,
  untrustedStructure: 13,
};

/** Kinds that need code of their own (sockets: in the kernel). */
const APART: ReadonlySet<MemoryKind> = new Set([
  'context',
  'arena',
  'socket',
  'sockCommon',
  'tcpSocket',
  'untrustedStructure',
]);
const UNTRUSTED: ReadonlySet<MemoryKind> = new Set(['untrusted', 'untrustedStructure']);

/** A map from slots to kinds of memory in one byte per slot. */
class MemoryKinds {
  private readonly codes: Uint8Array;

  constructor(slots: number) {
    this.codes = new Uint8Array(slots);
  }

  get(slot: number): MemoryKind | undefined {
    return KINDS[this.codes[slot] ?? 0];
  }

  *[Symbol.iterator](): Iterator<[number, MemoryKind]> {
    for (let slot = 0; slot < this.codes.length; slot++) {
      const kind = KINDS[this.codes[slot]!];
      if (kind !== undefined) yield [slot, kind];
    }
  }

  /** @returns false where context or an arena and other memory meet. */
  note(slot: number, kind: MemoryKind): boolean {
    const before = this.codes[slot]!;
    const code = CODES[kind];
    if (before === code) return true;
    if (before !== 0 && UNTRUSTED.has(kind) && UNTRUSTED.has(KINDS[before]!)) {
      this.codes[slot] = CODES.untrusted;
      return true;
    }
    if (before !== 0 && (APART.has(KINDS[before]!) || APART.has(kind))) return false;
    // Code for untrusted memory is good for any other.
    const untrusted = kind === 'untrusted' || before === CODES.untrusted;
    this.codes[slot] = untrusted ? CODES.untrusted : before === 0 ? code : CODES.memory;
    return true;
  }
}

export class FactsCollector {
  readonly reachable: Uint8Array;
  readonly usedMaps: string[] = [];
  readonly memoryKind: MemoryKinds;
  /** Of all kinds of paths together. */
  private anyMemoryKind: MemoryKinds;
  /** By slot of 64-bit arithmetic: whether its destination is an arena pointer. */
  readonly arenaArithmetic = new Map<number, boolean>();
  readonly contextOffset = new Map<number, number>();
  /** By subprogram: bytes below its frame pointer that are touched. */
  readonly stackDepth: Int32Array;
  readonly callbacks = new Set<number>();
  /** Subprograms that may read bytes of their frame that they never wrote. */
  readonly uninitialized = new Set<number>();
  changesPacket = false;
  private readonly tailCallRecords = new Map<number, TailCallRecord>();
  private readonly helperRecords = new Map<number, HelperRecord>();

  /** @param other collects of other paths: what must agree among all is shared with it */
  constructor(program: ProgramSpec, _maps: ReadonlyMap<string, MapSpec>, cfg: Cfg, other?: FactsCollector) {
    this.reachable = new Uint8Array(program.insns.length);
    this.memoryKind = new MemoryKinds(program.insns.length);
    this.anyMemoryKind = this.memoryKind;
    if (other !== undefined) this.anyMemoryKind = other.anyMemoryKind = new MemoryKinds(program.insns.length);
    this.stackDepth = other?.stackDepth ?? new Int32Array(cfg.subprograms.length);
  }

  useStack(subprogram: number, bytes: number): void {
    if (bytes > this.stackDepth[subprogram]!) this.stackDepth[subprogram] = bytes;
  }

  /** @returns false where kinds of memory meet at the same instruction that need different code (in the kernel at least). */
  noteMemory(insn: number, kind: MemoryKind): boolean {
    if (this.anyMemoryKind !== this.memoryKind) this.memoryKind.note(insn, kind);
    return this.anyMemoryKind.note(insn, kind);
  }

  /** @returns false where arena pointers and other values meet at the same instruction: they need different code. */
  noteArithmetic(insn: number, arena: boolean): boolean {
    const before = this.arenaArithmetic.get(insn);
    if (before === undefined) this.arenaArithmetic.set(insn, arena);
    return before === undefined || before === arena;
  }

  /** @returns false where another offset was seen at the same instruction. */
  noteContextOffset(insn: number, offset: number): boolean {
    const before = this.contextOffset.get(insn);
    this.contextOffset.set(insn, offset);
    return before === undefined || before === offset;
  }

  noteTailCall(insn: number, map: string, min: number, max: number, fits32 = false): void {
    const record = this.tailCallRecords.get(insn);
    if (record === undefined) {
      this.tailCallRecords.set(insn, { maps: new Set([map]), min, max, fits32 });
      return;
    }
    record.maps.add(map);
    record.min = Math.min(record.min, min);
    record.max = Math.max(record.max, max);
    record.fits32 &&= fits32;
  }

  noteHelperCall(insn: number, helper: number, map: string | undefined, constantKey: number | undefined): void {
    const record = this.helperRecords.get(insn);
    if (record === undefined) {
      this.helperRecords.set(insn, { helper, map, constantKey });
      return;
    }
    if (record.map !== map) record.map = undefined;
    if (record.constantKey !== constantKey) record.constantKey = undefined;
  }

  get tailCalls(): TailCallSite[] {
    return [...this.tailCallRecords.entries()]
      .sort((a, b) => a[0] - b[0])
      .map(([insn, record]) => ({
        insn,
        maps: [...record.maps].sort(),
        index: record.min === record.max ? record.min : undefined,
        indexMin: record.min,
        indexMax: record.max,
      }));
  }

  get narrowTailCalls(): Set<number> {
    return new Set([...this.tailCallRecords].flatMap(([insn, { fits32 }]) => (fits32 ? [insn] : [])));
  }

  get helperCalls(): HelperCallFact[] {
    return [...this.helperRecords.entries()].sort((a, b) => a[0] - b[0]).map(([insn, record]) => ({ insn, ...record }));
  }
}
