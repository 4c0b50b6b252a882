/** A program in the kernel: loaded, run on packets with BPF_PROG_TEST_RUN, never attached to anything. */

import type { ProgramSpec, ProgramType } from '../object/spec.ts';
import type { Packet } from '../runtime/packets.ts';
import { verdictName } from '../runtime/verdict.ts';
import { Attr, addressOf, Command, closeFd, fixed, fixedCopy, fixedText, refusal } from './bpf.ts';
import { type DebugInfo, FUNCTION_INFO_BYTES, LINE_INFO_BYTES } from './btf.ts';
import { kindOf, MAX_U32, needBytes, needInteger } from './check.ts';
import { KernelError } from './errors.ts';
import { objectInfo, text } from './info.ts';
import { NAME_BYTES, PROGRAM_TYPE, ProgramInfo, TAG_BYTES } from './uapi.ts';

export interface CodeToLoad {
  /** Number of enum bpf_prog_type. */
  readonly type: number;
  /** In wire format, with file descriptors for maps. */
  readonly code: Uint8Array;
  readonly name?: string;
  /** Default "GPL". */
  readonly license?: string;
  /** Number of enum bpf_attach_type; default 0. */
  readonly attachType?: number;
  /** BPF_F_* of prog_flags; default 0. */
  readonly flags?: number;
  /** Detail of the log of a program that is accepted; default 0, none; 4: statistics only. */
  readonly logLevel?: 0 | 1 | 2 | 4;
  readonly debug?: DebugInfo | undefined;
}

const FIRST_LOG_BYTES = 1 << 16;
/** The largest log that is asked for; of a longer one the kernel keeps the end. */
const MAX_LOG_BYTES = 1 << 28;
const ENOSPC = 'ENOSPC';

/**
 * BPF_PROG_LOAD. The caller closes the descriptor.
 * @throws KernelError `program_refused`, with the log at level 1 or, if asked for, 2; `not_permitted` and the like
 */
export function loadCode(input: CodeToLoad): { readonly fd: number; readonly log: string } {
  const { name = '', debug } = input;
  if (input.code.length % 8 !== 0) {
    throw new KernelError(
      'bad_argument',
      `program ${name}: code is made of instructions of 8 bytes, got ${input.code.length} bytes`,
      { program: name, bytes: input.code.length },
    );
  }
  const code = fixedCopy(input.code);
  const license = fixedText(input.license ?? 'GPL');
  const functions = debug && fixedCopy(debug.functions);
  const lines = debug && debug.lines.length > 0 ? fixedCopy(debug.lines) : undefined;
  const attempt = (level: number, log: Uint8Array | undefined) => {
    const attr = new Attr()
      .u32(0, input.type)
      .u32(4, code.length / 8)
      .pointer(8, code)
      .pointer(16, license)
      .u32(24, log ? level : 0)
      .u32(28, log?.length ?? 0)
      .pointer(32, log)
      .u32(44, input.flags ?? 0)
      .name(48, name)
      .u32(68, input.attachType ?? 0);
    if (debug && functions) {
      attr
        .u32(72, debug.btf.fd)
        .u32(76, FUNCTION_INFO_BYTES)
        .pointer(80, functions)
        .u32(88, functions.length / FUNCTION_INFO_BYTES);
      if (lines)
        attr
          .u32(92, LINE_INFO_BYTES)
          .pointer(96, lines)
          .u32(104, lines.length / LINE_INFO_BYTES);
    }
    return { ...attr.call(Command.progLoad), wanted: attr.read(140) };
  };
  const withLog = (level: number) => {
    for (let size = FIRST_LOG_BYTES; ; ) {
      const log = fixed(size);
      const outcome = attempt(level, log);
      if (outcome.errno === ENOSPC && size < MAX_LOG_BYTES) {
        // Since 6.4 the kernel says how much it would have needed.
        size = Math.min(MAX_LOG_BYTES, Math.max(2 * size, outcome.wanted + 1));
        continue;
      }
      const end = log.indexOf(0);
      return { outcome, log: new TextDecoder().decode(log.subarray(0, end < 0 ? size : end)) };
    }
  };

  const level = input.logLevel ?? 0;
  // Without a log the kernel is several times faster, so a program that is accepted is asked for none.
  let { outcome, log } = level > 0 ? withLog(level) : { outcome: attempt(0, undefined), log: '' };
  if (outcome.value < 0 && level === 0) ({ outcome, log } = withLog(1));
  if (outcome.value >= 0) return { fd: outcome.value, log };
  // A verifier that has begun is a verifier that was permitted to.
  if (log === '') throw refusal('program_refused', `program ${name}`, outcome, { program: name });
  throw new KernelError(
    'program_refused',
    `the kernel refused program ${name} (${outcome.errno}): ${refusalText(log)}`,
    { program: name, errno: outcome.errno ?? '', log },
  );
}

/** The verifier's last words: what follows them in a log are statistics. */
export function refusalText(log: string): string {
  const lines = log.trimEnd().split('\n');
  return lines.filter(line => !/^(processed \d|verification time|stack depth|mark_precise)/.test(line)).at(-1) ?? '';
}

export interface KernelRun {
  /** The low 32 bits of r0. */
  readonly returnValue: bigint;
  /** "XDP_PASS", "TC_ACT_OK", "PASS" ... */
  readonly verdict: string;
  /** The packet after the run. */
  readonly data: Uint8Array;
  /** Bytes that xdp_adjust_meta put in front of it. */
  readonly metadata: Uint8Array;
  /** The skb's mark after the run; 0 for xdp. */
  readonly mark: number;
  /** The 192-byte struct __sk_buff, or 24-byte struct xdp_md, after the run. */
  readonly context: Uint8Array;
  /** Mean time of a run, ns, by the kernel's clock. */
  readonly durationNs: number;
}

export interface KernelRunOptions {
  /** Runs, each on what the one before left of the packet: 1 to 2^31-1; default 1. */
  readonly repeat?: number;
  /** struct __sk_buff or xdp_md to start with, instead of one made from the packet's fields. */
  readonly context?: Uint8Array;
}

/** Part of struct bpf_prog_info. */
export interface KernelProgramInfo {
  readonly id: number;
  /** Number of enum bpf_prog_type. */
  readonly type: number;
  /** Up to 15 characters. */
  readonly name: string;
  /** Hash of the instructions, 16 hexadecimal digits. */
  readonly tag: string;
  /** When it was loaded, ns since boot. */
  readonly loadTimeNs: bigint;
  /** User who loaded it. */
  readonly uid: number;
  readonly gplCompatible: boolean;
  /** Ids of the maps that it uses. */
  readonly mapIds: readonly number[];
  /** Id of its types; 0 without. */
  readonly btfId: number;
  /** Bytes of `xlated()`, and of `jited()`: 0 where the kernel does not compile. */
  readonly xlatedBytes: number;
  readonly jitedBytes: number;
  readonly insnsProcessed: number;
  /** Runs, and ns they took, while `kernel.bpf_stats_enabled` was set. */
  readonly runCount: bigint;
  readonly runTimeNs: bigint;
}

/** One function of a program as the kernel's JIT compiled it. */
export interface JitedFunction {
  /** Where it is in the kernel; 0 where the kernel hides addresses. */
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

const ETHERNET_BYTES = 14;
const OUT_BYTES = 1 << 18;
/** struct __sk_buff, fields by offset. */
const SkBuff = { size: 192, mark: 8, ifindex: 40 } as const;
/** struct xdp_md. */
const XdpMd = { size: 24, data: 0, dataEnd: 4, dataMeta: 8, ifindex: 12, rxQueue: 16 } as const;

/** Owns one file descriptor. */
export class KernelProgram {
  readonly spec: ProgramSpec;
  /** The verifier's log, if one was asked for. */
  readonly log: string;
  readonly #fd: number;
  #info: DataView | undefined;
  #disposed = false;

  /** Programs are made by `loadIntoKernel` and `loadKernelProgram`. */
  constructor(spec: ProgramSpec, loaded: { readonly fd: number; readonly log: string }) {
    this.spec = spec;
    this.#fd = loaded.fd;
    this.log = loaded.log;
  }

  get name(): string {
    return this.spec.name;
  }

  get type(): ProgramType {
    return this.spec.type;
  }

  /** Where it runs, as `Program.backend` says it of programs loaded here. */
  get backend(): 'kernel' {
    return 'kernel';
  }

  /** The file descriptor, for as long as the program is not disposed. */
  get fd(): number {
    if (!this.#disposed) return this.#fd;
    throw new KernelError('disposed', `program ${this.name} was disposed; load it again`, { program: this.name });
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** The kernel's id of the program. */
  get id(): number {
    return this.#information().getUint32(ProgramInfo.id, true);
  }

  /** Instructions that the kernel's verifier processed; 0 before Linux 5.16. */
  get insnsProcessed(): number {
    return this.#information().getUint32(ProgramInfo.verifiedInsns, true);
  }

  /**
   * Runs the program in the kernel. Socket filters and cgroup_skb programs see what they see here in Switchyard.
   * @param packet the frame from its Ethernet header, at least 14 bytes; it is copied, not changed. An interface other
   *   than 1 (loopback) must exist on this machine.
   * @throws KernelError `run_failed`, `bad_argument`, `disposed`
   */
  run(packet: Uint8Array | Packet, options: KernelRunOptions = {}): KernelRun {
    const { data, ifindex = 1, rxQueue = 0, mark = 0, socket } = asPacket(packet);
    if (typeof options !== 'object' || options === null)
      throw new KernelError('bad_argument', `the options of a run are an object, got ${kindOf(options)}`);
    const { repeat = 1 } = options;
    if (socket !== undefined) {
      throw new KernelError(
        'bad_argument',
        "the kernel's test run gives packets a socket of its own; leave `socket` out",
      );
    }
    needInteger(repeat, 'repeat', 1, 0x7fff_ffff);
    needInteger(ifindex, 'ifindex', 0, MAX_U32);
    needInteger(rxQueue, 'rxQueue', 0, MAX_U32);
    needInteger(mark, 'mark', 0, MAX_U32);
    const xdp = this.type === 'xdp';
    // On a packet socket a filter sees the Ethernet header; a test run takes the first one away.
    const hidden = this.type === 'socket_filter' ? data.subarray(0, ETHERNET_BYTES) : data.subarray(0, 0);
    const input = fixed(hidden.length + data.length);
    input.set(hidden);
    input.set(data, hidden.length);
    const size = xdp ? XdpMd.size : SkBuff.size;
    const context =
      options.context === undefined ? fixed(size) : fixedCopy(needBytes(options.context, 'the context of a run'));
    if (options.context === undefined) {
      const view = new DataView(context.buffer);
      if (xdp) {
        view.setUint32(XdpMd.dataEnd, input.length, true);
        // The kernel takes loopback's first queue unless told.
        if (ifindex !== 1 || rxQueue !== 0) {
          view.setUint32(XdpMd.ifindex, ifindex, true);
          view.setUint32(XdpMd.rxQueue, rxQueue, true);
        }
      } else {
        view.setUint32(SkBuff.mark, mark, true);
        if (ifindex !== 1) view.setUint32(SkBuff.ifindex, ifindex, true);
      }
    }
    const after = fixed(size);
    const output = fixed(OUT_BYTES + input.length);
    const attr = new Attr()
      .u32(0, this.fd)
      .u32(8, input.length)
      .u32(12, output.length)
      .pointer(16, input)
      .pointer(24, output)
      .u32(32, repeat)
      .u32(40, context.length)
      .u32(44, after.length)
      .pointer(48, context)
      .pointer(56, after);
    const outcome = attr.call(Command.testRun);
    if (outcome.value < 0) {
      throw refusal(
        'run_failed',
        `a test run of ${this.name} (${this.type}) on ${data.length} bytes; ${whatRunsTake(outcome.errno, this.type, options.context !== undefined)}`,
        outcome,
        { program: this.name, bytes: data.length, ifindex, rxQueue },
      );
    }
    const returnValue = BigInt(attr.read(4));
    const bytes = output.slice(0, attr.read(12));
    const afterView = new DataView(after.buffer);
    const metadata = xdp ? afterView.getUint32(XdpMd.data, true) : 0;
    const frame = bytes.subarray(hidden.length + metadata);
    // A header that the program cannot see is not given back.
    if (this.type === 'cgroup_skb' || this.type === 'socket_filter')
      frame.set(data.subarray(0, Math.min(ETHERNET_BYTES, frame.length)));
    return {
      returnValue,
      verdict: verdictName(this.type, returnValue),
      data: frame,
      metadata: bytes.subarray(0, metadata),
      mark: xdp ? 0 : afterView.getUint32(SkBuff.mark, true),
      context: after,
      durationNs: attr.read(36),
    };
  }

  /** What the kernel says of the program, as it is now. @throws KernelError `info_failed` */
  info(): KernelProgramInfo {
    const what = `program ${this.name}`;
    const mapCount = this.#information().getUint32(ProgramInfo.mapCount, true);
    const ids = fixed(4 * mapCount);
    const info = objectInfo(this.fd, ProgramInfo.size, what, view => {
      if (mapCount === 0) return;
      view.setUint32(ProgramInfo.mapCount, mapCount, true);
      view.setBigUint64(ProgramInfo.mapIds, addressOf(ids), true);
    });
    const u32 = (offset: number): number => info.getUint32(offset, true);
    const u64 = (offset: number): bigint => info.getBigUint64(offset, true);
    const tag = Array.from({ length: TAG_BYTES }, (_, i) => info.getUint8(ProgramInfo.tag + i));
    return {
      id: u32(ProgramInfo.id),
      type: u32(ProgramInfo.type),
      name: text(info, ProgramInfo.name, NAME_BYTES),
      tag: tag.map(byte => byte.toString(16).padStart(2, '0')).join(''),
      loadTimeNs: u64(ProgramInfo.loadTime),
      uid: u32(ProgramInfo.uid),
      gplCompatible: (u32(ProgramInfo.gplCompatible) & 1) === 1,
      mapIds: [...new Uint32Array(ids.buffer)],
      btfId: u32(ProgramInfo.btfId),
      xlatedBytes: u32(ProgramInfo.xlatedLength),
      jitedBytes: u32(ProgramInfo.jitedLength),
      insnsProcessed: u32(ProgramInfo.verifiedInsns),
      runCount: u64(ProgramInfo.runCount),
      runTimeNs: u64(ProgramInfo.runTime),
    };
  }

  /**
   * The program after the kernel's rewrites, 8 bytes an instruction. Some have encodings that are no valid input (calls
   * of helpers by address, internal opcodes), so `decode` may refuse them.
   * @throws KernelError `info_failed`
   */
  xlated(): Uint8Array {
    const length = this.#information().getUint32(ProgramInfo.xlatedLength, true);
    const insns = fixed(length);
    objectInfo(this.fd, ProgramInfo.size, `program ${this.name}`, info => {
      info.setUint32(ProgramInfo.xlatedLength, length, true);
      info.setBigUint64(ProgramInfo.xlatedInsns, addressOf(insns), true);
    });
    return insns.slice();
  }

  /**
   * Where the rewritten program has source lines, in slots of `xlated`, ascending; empty for programs loaded without types.
   * @throws KernelError `info_failed`
   */
  translatedLines(): { readonly slot: number; readonly line: number; readonly column: number }[] {
    const count = this.#information().getUint32(ProgramInfo.lineCount, true);
    if (count === 0) return [];
    const records = fixed(LINE_INFO_BYTES * count);
    objectInfo(this.fd, ProgramInfo.size, `program ${this.name}`, info => {
      info.setUint32(ProgramInfo.lineBytes, LINE_INFO_BYTES, true);
      info.setUint32(ProgramInfo.lineCount, count, true);
      info.setBigUint64(ProgramInfo.lines, addressOf(records), true);
    });
    const view = new DataView(records.buffer);
    return Array.from({ length: count }, (_, i) => {
      const place = view.getUint32(LINE_INFO_BYTES * i + 12, true);
      return { slot: view.getUint32(LINE_INFO_BYTES * i, true), line: place >>> 10, column: place & 0x3ff };
    });
  }

  /**
   * The kernel's machine code, a piece per function; empty where its JIT is off.
   * @throws KernelError `info_failed`
   */
  jited(): JitedFunction[] {
    const known = this.#information();
    const length = known.getUint32(ProgramInfo.jitedLength, true);
    if (length === 0) return [];
    const count = Math.max(1, known.getUint32(ProgramInfo.lengthCount, true));
    const code = fixed(length);
    const addresses = fixed(8 * count);
    const lengths = fixed(4 * count);
    const info = objectInfo(this.fd, ProgramInfo.size, `program ${this.name}`, view => {
      view.setUint32(ProgramInfo.jitedLength, length, true);
      view.setBigUint64(ProgramInfo.jitedInsns, addressOf(code), true);
      view.setUint32(ProgramInfo.functionCount, count, true);
      view.setBigUint64(ProgramInfo.functionAddresses, addressOf(addresses), true);
      view.setUint32(ProgramInfo.lengthCount, count, true);
      view.setBigUint64(ProgramInfo.functionLengths, addressOf(lengths), true);
    });
    const hidden = info.getUint32(ProgramInfo.functionCount, true) === 0;
    const view = new DataView(addresses.buffer);
    let at = 0;
    return [...new Uint32Array(lengths.buffer)].map((bytes, i) => {
      const start = at;
      at += bytes;
      return { address: hidden ? 0n : view.getBigUint64(8 * i, true), bytes: code.slice(start, at) };
    });
  }

  /** Closes the descriptor: the program is gone once no slot holds it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    closeFd(this.#fd);
  }

  #information(): DataView {
    const { fd } = this;
    this.#info ??= objectInfo(fd, ProgramInfo.size, `program ${this.name}`);
    return this.#info;
  }
}

function asPacket(packet: unknown): Packet {
  if (packet instanceof Uint8Array) return { data: needBytes(packet, 'a packet') };
  if (typeof packet !== 'object' || packet === null)
    throw new KernelError('bad_argument', `a packet is its bytes, or an object with \`data\`; got ${kindOf(packet)}`);
  needBytes((packet as Packet).data, 'the data of a packet');
  return packet as Packet;
}

/** What the kernel may mind about a run, by its answer. */
function whatRunsTake(errno: string | undefined, type: ProgramType, withContext: boolean): string {
  if (errno === 'ENODEV') return 'its interface does not exist on this machine';
  if (errno === 'ENOMEM') return 'the kernel has no room for a frame as long';
  if (errno === 'E2BIG') return 'the context is longer than the structure, and not zero there';
  const context = type === 'xdp' ? 'data_end within the frame' : 'zeros where it may not be chosen';
  return `it takes a frame of at least 14 bytes, an interface that exists${withContext ? `, and a context with ${context}` : ''}`;
}

/** The kernel's number of a program type. @throws KernelError `unsupported_program` */
export function programTypeNumber(spec: ProgramSpec): number {
  if (Object.hasOwn(PROGRAM_TYPE, spec.type)) return PROGRAM_TYPE[spec.type as keyof typeof PROGRAM_TYPE];
  const why = spec.type === 'raw' ? 'which only Switchyard has' : 'which is none of those that are loaded here';
  throw new KernelError(
    'unsupported_program',
    `program ${spec.name} is of type ${spec.type}, ${why}; the kernel runs ${Object.keys(PROGRAM_TYPE).join(', ')}`,
    { program: spec.name },
  );
}
