/** One test of the kernel's tables against our verifier and both backends. */
import { SwitchyardError } from '../../src/errors.ts';
import { decode, encode } from '../../src/isa/codec.ts';
import { IsaError } from '../../src/isa/errors.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { MapError } from '../../src/maps/errors.ts';
import type { Btf } from '../../src/object/btf.ts';
import { parseBtf } from '../../src/object/btf.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import type { Collection, MapSpec, ProgramSpec, ProgramType } from '../../src/object/spec.ts';
import type { Runtime } from '../../src/runtime/runtime.ts';
import { verifyProgram } from '../../src/runtime/stages.ts';
import { VerifierError } from '../../src/verifier/errors.ts';
import type { TableTest } from './extract.ts';
import { fill } from './fillers.ts';
import { fixupMap, LOOP, SIMPLE_24, SIMPLE_42, VALUE_BTF } from './maps.ts';

/** enum bpf_prog_type; a test that names none is a socket filter. */
const OUR_TYPES: ReadonlyMap<number, ProgramType> = new Map([
  [0, 'socket_filter'],
  [1, 'socket_filter'],
  [3, 'sched_cls'],
  [4, 'sched_act'],
  [6, 'xdp'],
  [8, 'cgroup_skb'],
]);
const KERNEL_TYPES = [
  'socket_filter socket_filter kprobe sched_cls sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out',
  'lwt_xmit sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2 sk_reuseport',
  'flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm sk_lookup syscall',
]
  .join(' ')
  .split(' ');

const STRICT_ALIGNMENT = 1 << 1;
/** uapi bpf.h: flags of BPF_PROG_LOAD for the two alignments. */
const LOAD_STRICT_ALIGNMENT = 1 << 0;
const LOAD_ANY_ALIGNMENT = 1 << 1;
/** Largest helper number of Linux 6.18. */
const LAST_HELPER = 211;
/** Stands for "some address". */
const POINTER_VALUE = 0xcafe4a;

/** A test with everything it needs to be loaded, here or into the kernel. */
export interface Subject {
  readonly test: TableTest;
  /** Table and name. */
  readonly id: string;
  readonly type: ProgramType;
  /** Numbers of uapi bpf.h. */
  readonly kernelType: number;
  readonly attachType: number;
  readonly code: Uint8Array;
  /** By slot, the map whose reference goes there. */
  readonly maps: ReadonlyMap<number, MapSpec>;
  /** By slot, the name of the kernel function that is called there. */
  readonly kfuncs: ReadonlyMap<number, string>;
  readonly loadFlags: number;
  readonly runs: readonly { readonly retval: number; readonly data: Uint8Array }[];
}

type Outcome =
  | { readonly accepted: true }
  /** `feature`: refused because Switchyard lacks it, not because of what the program does. */
  | {
      readonly accepted: false;
      readonly why: string;
      readonly feature: string | undefined;
      /** The kernel function that it is refused for, because Switchyard has none of that name. */
      readonly kfunc: string | undefined;
    };

/** A feature that a test needs and Switchyard lacks, by name. */
interface Missing {
  readonly missing: string;
}

/** What is needed to load a test; or why it is not for us. */
export function prepare(test: TableTest): Subject | { readonly otherType: string } | Missing {
  const type = OUR_TYPES.get(test.type);
  if (type === undefined) return { otherType: KERNEL_TYPES[test.type] ?? String(test.type) };
  const maps = new Map<number, MapSpec>();
  for (const [kind, slots] of Object.entries(test.fixups)) {
    const spec = fixupMap(kind);
    if (spec === undefined) return { missing: kind };
    for (const slot of slots) maps.set(slot, spec);
  }
  const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
  let code = bytes(test.insns);
  let runs = test.runs.map(({ retval, data }) => ({ retval, data: bytes(data) }));
  if (test.filler !== null) {
    const filled = fill(test.filler, test.runs[0]!.retval);
    if (filled === undefined) return { missing: test.filler };
    code = encode(filled.insns);
    runs = runs.map(({ data }) => ({ retval: filled.retval, data }));
  }
  const alignment = test.flags & 3;
  const loadFlags =
    (test.flags & ~3) |
    ((alignment & STRICT_ALIGNMENT) !== 0 ? LOAD_STRICT_ALIGNMENT : 0) |
    ((alignment & 1) !== 0 ? LOAD_ANY_ALIGNMENT : 0);
  const id = `${test.file}: ${test.name}`;
  const kfuncs = new Map(test.kfuncs);
  const { attachType } = test;
  return { test, id, type, kernelType: test.type || 1, attachType, code, maps, kfuncs, loadFlags, runs };
}

const btf: Btf = parseBtf(VALUE_BTF);

function program(subject: Subject): ProgramSpec {
  const insns = decode(subject.code).map((insn, slot): Instruction => {
    const name = subject.kfuncs.get(slot);
    if (insn.kind === 'callKfunc' && name !== undefined) return { ...insn, btfId: 0, name };
    const map = subject.maps.get(slot)?.name;
    if (map === undefined || insn.kind !== 'loadImm64' || insn.reference === undefined) return insn;
    const { reference } = insn;
    if (reference.type === 'mapFd') return { ...insn, reference: { type: 'map', map } };
    if (reference.type === 'mapFdValue') {
      return { ...insn, reference: { type: 'mapValue', map, offset: reference.offset } };
    }
    return insn;
  });
  const attachType = subject.type === 'cgroup_skb' ? 'cgroup_inet_ingress' : undefined;
  const spec = programFromInstructions({
    name: 'test',
    type: subject.type,
    insns,
    ...(attachType === undefined ? {} : { attachType }),
  });
  return { ...spec, btf };
}

const mapsByName = (subject: Subject): Map<string, MapSpec> =>
  new Map([...subject.maps.values()].map(spec => [spec.name, spec]));

/** Verifies only. Anything thrown but the errors for bad programs is a bug and passes through. */
export function ourVerdict(subject: Subject, unprivileged: boolean | 'cap_bpf' = false): Outcome {
  try {
    verifyProgram(program(subject), mapsByName(subject), {
      strictAlignment: (subject.loadFlags & LOAD_STRICT_ALIGNMENT) !== 0,
      unprivileged,
    });
    return { accepted: true };
  } catch (error) {
    const refused = { accepted: false, feature: undefined, kfunc: undefined } as const;
    if (error instanceof IsaError) return { ...refused, why: error.message.split('\n')[0]! };
    if (!(error instanceof VerifierError)) throw error;
    const kfunc = error.code === 'unknown_kfunc' ? subject.kfuncs.get(error.insn ?? -1) : undefined;
    return { ...refused, why: error.text, feature: missingFeature(error), kfunc };
  }
}

function missingFeature(error: VerifierError): string | undefined {
  if (error.code === 'unknown_helper') {
    const helper = Number(/#(\d+)/.exec(error.text)?.[1]);
    return helper >= 1 && helper <= LAST_HELPER ? `helper ${helper}` : undefined;
  }
  return error.code !== 'unsupported' ? undefined : error.text.replace(/#?\d+/g, 'N');
}

/** Runs on one backend. @returns what differed from the table, one entry per run, or the feature the runtime lacks. */
export function run(subject: Subject, runtime: Runtime, backend: 'native' | 'interpreter'): string[] | Missing {
  let object: ReturnType<Runtime['load']>;
  try {
    object = runtime.load(collection(subject), { backend });
  } catch (error) {
    if (error instanceof MapError && error.code === 'unsupported_map_type') {
      return { missing: `map type ${String(error.details.type)}` };
    }
    if (error instanceof SwitchyardError) return [`${backend}: ${error.name} ${error.message}`];
    throw error;
  }
  try {
    return subject.runs.flatMap(({ retval, data }, index) => {
      if (retval === POINTER_VALUE) return [];
      const got = Number(BigInt.asUintN(32, object.program('test').run(data).returnValue));
      return got === retval >>> 0 ? [] : [`${backend}, run ${index}: returned ${got}, expected ${retval >>> 0}`];
    });
  } finally {
    object.dispose();
  }
}

export function collection(subject: Subject): Collection {
  const maps = mapsByName(subject);
  const programs = new Map<string, ProgramSpec>([['test', program(subject)]]);
  for (const name of ['prog1', 'prog2']) {
    if (!maps.has(name)) continue;
    for (const helper of tailCallTargets(subject.type, name)) programs.set(helper.name, helper);
  }
  return { programs, maps, license: 'GPL', btf };
}

/** What the prog array `map` holds. */
function tailCallTargets(type: ProgramType, map: string): ProgramSpec[] {
  const set = (dst: 0 | 3, imm: number): Instruction => ({
    kind: 'alu',
    op: 'mov',
    width: 64,
    dst,
    src: undefined,
    imm,
  });
  const exit: Instruction = { kind: 'exit' };
  const bodies: [string, Instruction[]][] = [
    [SIMPLE_42, [set(0, 42), exit]],
    [SIMPLE_24, [set(0, 24), exit]],
    [
      LOOP,
      [
        set(3, 1),
        { kind: 'loadImm64', dst: 2, value: 0n, reference: { type: 'map', map } },
        { kind: 'wide' },
        { kind: 'callHelper', helper: 12 },
        set(0, 41),
        exit,
      ],
    ],
  ];
  return bodies.map(([name, insns]) => programFromInstructions({ name, type, insns }));
}
