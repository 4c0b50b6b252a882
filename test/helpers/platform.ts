/** Runs helper routines in the interpreter, on packets in an arena of the test's own. */
import { HELPER_ROUTINES } from '../../src/helpers/routines.ts';
import { createServices } from '../../src/helpers/services.ts';
import { Interpreter } from '../../src/interpreter/interpreter.ts';
import { type LinkedProgram, linkRoutine } from '../../src/interpreter/linked-program.ts';
import type { Routine } from '../../src/isa/routine.ts';
import type { Arena } from '../../src/memory/arena.ts';
import { createArena } from '../../src/memory/buffer-arena.ts';
import { RunContext, RuntimeState, SkBuff, SkbContext, XdpContext } from '../../src/memory/layout.ts';

const STACK = 16 * 1024;
/** More than any sequence of calls can use up, so that no skb helper fails for lack of room where the kernel allocates. */
const SKB_HEADROOM = 17 * 1024;
const XDP_HEADROOM = 256;
const FRAME = 40 * 1024;
const ETHERNET = 14;

export interface SkbFields {
  len: number;
  protocol: number;
  vlanPresent: number;
  vlanTci: number;
  vlanProto: number;
  hash: number;
}

export class HelperMachine {
  readonly arena: Arena;
  readonly runContext: number;
  readonly state: number;
  readonly frame: number;
  readonly context: number;
  readonly scratch: number;
  readonly lines: string[] = [];
  time = 0n;
  readonly #interpreter: Interpreter;
  readonly #routines = new Map<string, LinkedProgram>();

  /** @param extra routines of the test's own, callable by the helpers'. */
  constructor(extra: readonly Routine[] = []) {
    this.arena = createArena(new ArrayBuffer(1 << 20), 0x7f00_0000_0000n);
    const { arena } = this;
    this.runContext = arena.allocate(RunContext.size, 64);
    this.state = arena.allocate(RuntimeState.size, 64);
    this.frame = arena.allocate(FRAME, 64);
    this.context = arena.allocate(SkbContext.size, 64);
    this.scratch = arena.allocate(4096, 64);
    const stack = arena.allocate(STACK, 16);
    this.setRun(RunContext.stackTop, arena.address(stack + STACK));
    this.setRun(RunContext.runtime, arena.address(this.state));
    this.setRun(RunContext.random, 88172645463325252n);
    const services = createServices({
      arena,
      now: clock => this.time + BigInt(clock),
      pidTgid: () => (77n << 32n) | 78n,
      uidGid: () => (100n << 32n) | 1000n,
      onTrace: line => this.lines.push(line),
    });
    for (const routine of [...HELPER_ROUTINES, ...extra]) this.#routines.set(routine.name, linkRoutine(routine));
    this.#interpreter = new Interpreter({
      arena,
      runContext: arena.address(this.runContext),
      stackSize: STACK,
      routine: name => this.routine(name),
      service: name => {
        const service = services[name];
        if (service === undefined) throw new Error(`no service ${name}`);
        return service;
      },
      programById: id => this.programs.get(id),
    });
  }

  readonly programs = new Map<number, LinkedProgram>();

  routine(name: string): LinkedProgram {
    const routine = this.#routines.get(name);
    if (routine === undefined) throw new Error(`no routine ${name}`);
    return routine;
  }

  /** @returns r0 as int64. */
  call(name: string, ...args: (bigint | number)[]): bigint {
    return this.run(this.routine(name), ...args);
  }

  run(program: LinkedProgram, ...args: (bigint | number)[]): bigint {
    return BigInt.asIntN(
      64,
      this.#interpreter.run(
        program,
        args.map(arg => BigInt.asUintN(64, BigInt(arg))),
      ),
    );
  }

  setRun(offset: number, value: bigint): void {
    this.arena.view.setBigUint64(this.runContext + offset, value, true);
  }
  run32(offset: number): number {
    return this.arena.view.getUint32(this.runContext + offset, true);
  }

  /** Copies bytes into scratch memory. @returns their address. */
  bytes(bytes: Uint8Array, at = 0): bigint {
    this.arena.bytes.set(bytes, this.scratch + at);
    return this.arena.address(this.scratch + at);
  }
  read(address: bigint, length: number): Uint8Array {
    return this.arena.bytes.slice(this.arena.offset(address, length), this.arena.offset(address, length) + length);
  }

  #place(packet: Uint8Array, headroom: number, fill: number): { data: bigint; end: bigint } {
    this.arena.bytes.fill(fill, this.frame, this.frame + FRAME);
    this.arena.bytes.set(packet, this.frame + headroom);
    this.arena.bytes.fill(0, this.context, this.context + SkbContext.size);
    const data = this.arena.address(this.frame + headroom);
    return { data, end: data + BigInt(packet.length) };
  }

  /** @returns address of an SkbContext at the MAC header (tc), or at the network header. */
  skb(packet: Uint8Array, at: 'mac' | 'network' = 'mac', headroom = SKB_HEADROOM): bigint {
    const { data, end } = this.#place(packet, headroom, 0xee);
    const start = at === 'mac' ? data : data + BigInt(ETHERNET);
    this.#set(SkbContext.data, start);
    this.#set(SkbContext.dataEnd, end);
    this.#set(SkbContext.dataMeta, start);
    this.#set(SkbContext.hardStart, this.arena.address(this.frame));
    this.#set(SkbContext.hardEnd, this.arena.address(this.frame + FRAME));
    this.#set(SkbContext.macHeader, data);
    this.setField('len', Number(end - start));
    const length = packet.length >= ETHERNET ? (packet[12]! << 8) | packet[13]! : 0;
    const protocol = length >= 0x600 ? length : packet[14] === 0xff && packet[15] === 0xff ? 1 : 4;
    this.setField('protocol', (protocol >> 8) | ((protocol & 0xff) << 8));
    return this.arena.address(this.context);
  }

  /** As the kernel's test run lays an XDP frame out: 4 KiB, its end kept for skb_shared_info. */
  xdp(packet: Uint8Array): bigint {
    const { data, end } = this.#place(packet, XDP_HEADROOM, 0);
    this.#set(XdpContext.data, data);
    this.#set(XdpContext.dataEnd, end);
    this.#set(XdpContext.dataMeta, data);
    this.#set(XdpContext.hardStart, this.arena.address(this.frame + 40));
    this.#set(XdpContext.hardEnd, this.arena.address(this.frame + 4096 - 320));
    return this.arena.address(this.context);
  }

  #set(offset: number, value: bigint): void {
    this.arena.view.setBigUint64(this.context + offset, value, true);
  }
  pointer(offset: number): bigint {
    return this.arena.view.getBigUint64(this.context + offset, true);
  }
  field(name: keyof SkbFields): number {
    return this.arena.view.getUint32(this.context + SkbContext.uapi + SkBuff[name], true);
  }
  /** A field of the skb, of 8, 32 or 64 bits. */
  read64({ at, bits }: { readonly at: number; readonly bits: number }): bigint {
    const field = this.arena.view.getBigUint64(this.context + SkbContext.uapi + at, true);
    return BigInt.asUintN(bits, field);
  }
  setField(name: keyof SkbFields, value: number): void {
    this.arena.view.setUint32(this.context + SkbContext.uapi + SkBuff[name], value, true);
  }

  /** The packet as it is now, with its metadata if asked for. The pointers lie at the same place in both contexts. */
  packet(metadata = false): Uint8Array {
    const data = this.pointer(metadata ? SkbContext.dataMeta : SkbContext.data);
    return this.read(data, Number(this.pointer(SkbContext.dataEnd) - data));
  }
}
