/**
 * The same chains in the running kernel: sched_cls programs, run by BPF_PROG_TEST_RUN with a repeat count. The index of an
 * indirect site comes from the mark of the skb, which the kernel's verifier can't know; for random chains it is a linear
 * congruential generator's state, which each program steps on (about 2 ns of what is measured).
 */
import koffi from 'koffi';
import { assemble, encode, type Instruction } from '../src/index.ts';
import type { Chain } from './tailcall-chains.ts';

const SYS_BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const Command = { mapCreate: 0, update: 2, progLoad: 5, testRun: 10 } as const;
const PROG_ARRAY = 3;
const SCHED_CLS = 3;
const ATTR_BYTES = 144;
const PACKET_BYTES = 64;

export interface KernelChains {
  /**
   * @param programs each hops to the next
   * @param circle the last hops to the first, until the limit of 33 ends the run; else to a leaf
   */
  chain(site: 'indirect' | 'direct', programs: number, circle: boolean): Chain;
  /**
   * Each program hops to a random slot until the limit of 33 ends the run; with one slot, to a leaf.
   * @param slots a power of two; all are filled
   */
  random(slots: number, programs: number): Chain;
  close(): void;
}

/** @returns undefined where bpf(2) is not permitted. */
export function openKernel(): KernelChains | undefined {
  const number = SYS_BPF[process.arch];
  if (process.platform !== 'linux' || number === undefined) return undefined;
  const libc = koffi.load('libc.so.6');
  const syscall = libc.func('long syscall(long number, long command, void *attr, long size)');
  const closeFd = libc.func('int close(int fd)');
  const fds: number[] = [];
  const bpf = (command: number, fill: (attr: Buffer) => void): { result: number; attr: Buffer } => {
    const attr = Buffer.alloc(ATTR_BYTES);
    fill(attr);
    return { result: Number(syscall(number, command, attr, ATTR_BYTES)), attr };
  };
  const must = (what: string, result: number): number => {
    if (result < 0) throw new Error(`${what} failed with errno ${koffi.errno()}`);
    return result;
  };
  const address = (buffer: Buffer): bigint => BigInt(koffi.address(buffer));
  const createArray = (entries: number): number =>
    bpf(Command.mapCreate, attr => {
      for (const [i, word] of [PROG_ARRAY, 4, 4, entries].entries()) attr.writeUInt32LE(word, 4 * i);
    }).result;

  const probe = createArray(1);
  if (probe < 0) return undefined;
  closeFd(probe);

  const load = (text: string, map: number): number => {
    const insns = assemble(text).map((insn): Instruction => {
      if (insn.kind !== 'loadImm64' || insn.reference?.type !== 'map') return insn;
      return { ...insn, reference: { type: 'mapFd', fd: map } };
    });
    const code = Buffer.from(encode(insns));
    const license = Buffer.from('GPL\0');
    const { result } = bpf(Command.progLoad, attr => {
      attr.writeUInt32LE(SCHED_CLS, 0);
      attr.writeUInt32LE(code.length / 8, 4);
      attr.writeBigUInt64LE(address(code), 8);
      attr.writeBigUInt64LE(address(license), 16);
    });
    fds.push(must('loading a program', result));
    return result;
  };

  const arrayOf = (entries: number) => {
    const map = must('making a prog array', createArray(entries));
    fds.push(map);
    const put = (index: number, program: number): void => {
      const key = Buffer.from(Uint32Array.of(index).buffer);
      const value = Buffer.from(Uint32Array.of(program).buffer);
      const { result } = bpf(Command.update, attr => {
        attr.writeUInt32LE(map, 0);
        attr.writeBigUInt64LE(address(key), 8);
        attr.writeBigUInt64LE(address(value), 16);
      });
      must('filling a slot', result);
    };
    return { map, put };
  };

  const runsOf = (entry: number): Chain => {
    const packet = Buffer.alloc(PACKET_BYTES);
    return {
      time(runs) {
        const { result, attr } = bpf(Command.testRun, request => {
          request.writeUInt32LE(entry, 0);
          request.writeUInt32LE(packet.length, 8);
          request.writeBigUInt64LE(address(packet), 16);
          request.writeUInt32LE(runs, 32);
        });
        must('a test run', result);
        return attr.readUInt32LE(36);
      },
    };
  };

  return {
    random(slots, programs) {
      const { map, put } = arrayOf(slots);
      const step = `r6 = r1
        r3 = *(u32 *)(r1 + 8)
        w3 *= 1664525
        w3 += 1013904223
        *(u32 *)(r1 + 8) = r3
        w3 >>= 11
        w3 &= ${slots - 1}
        r2 = map[chain] ll
        call 12
        r0 = 0
        exit`;
      const entry = load(step, map);
      for (let i = 0; i < programs; i++) {
        const program = slots === 1 ? load('r0 = 0\nexit', map) : load(step, map);
        for (let slot = i; slot < slots; slot += programs) put(slot, program);
        // The array holds it.
        fds.pop();
        closeFd(program);
      }
      return runsOf(entry);
    },
    chain(site, programs, circle) {
      const { map, put } = arrayOf(64);
      if (!circle) put(programs, load('r0 = 0\nexit', map));
      let entry = 0;
      for (let i = programs - 1; i >= 0; i--) {
        const next = circle ? (i + 1) % programs : i + 1;
        const index = site === 'direct' ? `r3 = ${next}` : `r3 = *(u32 *)(r1 + 8)\nr3 += ${next}`;
        entry = load(`r6 = r1\n${index}\nr2 = map[chain] ll\ncall 12\nr0 = *(u32 *)(r6 + 0)\nexit`, map);
        put(i, entry);
      }
      return runsOf(entry);
    },
    close() {
      for (const fd of fds) closeFd(fd);
    },
  };
}
