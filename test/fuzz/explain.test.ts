/** What excuses a program that is accepted here only: never more than what our verifier knows at the very place. */
import { describe, expect, it } from 'vitest';
import { explain, explainLog } from '../../fuzz/explain.ts';
import { collectionOf, type Subject } from '../../fuzz/judge.ts';
import { parseRegister } from '../../fuzz/kernel-log.ts';
import { kernelMissing } from '../kernel/support.ts';

const FOUND = `*(u32 *)(r10 - 4) = 0
r1 = map[array] ll
r2 = r10
r2 += -4
call 1
if r0 == 0 goto out
r9 = r0`;
/** Instructions before what follows `FOUND`. */
const START = 8;

const subject = (text: string, type: Subject['type'] = 'xdp'): Subject => ({
  type,
  seed: 1,
  text: `${FOUND}\n${text}`,
});
const lines = (...of: readonly string[]): string =>
  [
    '0: R1=ctx() R10=fp0',
    '0: (62) *(u32 *)(r10 -4) = 0          ; R10=fp0 fp-8=0000????',
    '1: (18) r1 = 0xffff888383248e00       ; R1=map_ptr(map=array,ks=4,vs=48)',
    '3: (bf) r2 = r10                      ; R2=fp0 R10=fp0',
    '4: (07) r2 += -4                      ; R2=fp-4',
    '5: (85) call bpf_map_lookup_elem#1    ; R0=map_value_or_null(id=1,map=array,ks=4,vs=48)',
    '6: (15) if r0 == 0x0 goto pc+9        ; R0=map_value(map=array,ks=4,vs=48)',
    '7: (bf) r9 = r0                       ; R0=map_value(map=array,ks=4,vs=48) R9=map_value(map=array,ks=4,vs=48)',
    ...of,
    'processed 16 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0',
  ].join('\n');

describe('an index', () => {
  const text = 'r1 = *(u8 *)(r9 + 0)\nr1 &= 31\nr9 += r1\nr0 = *(u8 *)(r9 + 16)\nout: r0 = 0\nexit';
  const logged = (bounds: string, more = ''): string =>
    lines(
      `8: (71) r1 = *(u8 *)(r9 +0)           ; R1=scalar(smin=0,smax=umax=255,var_off=(0x0; 0xff)) R9=map_value(map=array,ks=4,vs=48)${more}`,
      `9: (57) r1 &= 31                      ; R1=scalar(${bounds})`,
      `10: (0f) r9 += r1                     ; R9=map_value(map=array,ks=4,vs=48,${bounds})`,
      '11: (71) r0 = *(u8 *)(r9 +16)',
      'R9 max value is outside of the allowed memory range',
    );
  const collection = collectionOf(subject(text));
  it('of which the kernel knows less', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=63,var_off=(0x0; 0x3f)';
    expect(explainLog(collection, logged(bounds))).toBe('narrower');
  });
  it('of which the kernel knows less about the bits only', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=31,var_off=(0x0; 0x3f)';
    expect(explainLog(collection, logged(bounds))).toBe('narrower');
  });
  it('of which it knows the same', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=31,var_off=(0x0; 0x1f)';
    expect(explainLog(collection, logged(bounds))).toBeUndefined();
  });
  it('of which it knows more', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=30,var_off=(0x0; 0x1f)';
    expect(explainLog(collection, logged(bounds))).toBeUndefined();
  });
  it('of a log whose beginning is lost', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=63,var_off=(0x0; 0x3f)';
    const whole = logged(bounds);
    expect(explainLog(collection, whole.slice(whole.indexOf('9: (57)')))).toBeUndefined();
  });
  it('which is not what is refused', () => {
    const bounds = 'smin=smin32=0,smax=umax=smax32=umax32=63,var_off=(0x0; 0x3f)';
    const refused = logged(bounds).replace(/^R9 max.*$/m, 'R9 may not be read today');
    expect(explainLog(collection, refused)).toBeUndefined();
  });
  it('of which it knows less, where another register decides', () => {
    const same = 'smin=smin32=0,smax=umax=smax32=umax32=31,var_off=(0x0; 0x1f)';
    expect(explainLog(collection, logged(same, ' R0=scalar()'))).toBeUndefined();
  });
});

describe("a callback's result", () => {
  const collection = collectionOf(
    subject(`r0 = *(u8 *)(r9 + 0)
      r0 &= 1
      *(u64 *)(r10 - 16) = r0
      r1 = 3
      r2 = func[cb] ll
      r3 = r10
      r3 += -16
      r4 = 0
      call 181
      out: r0 = 0
      exit
      cb: r0 = *(u64 *)(r2 + 0)
      exit`),
  );
  const logged = (known: string): string =>
    lines(
      ...[8, 9, 10, 11, 12, 14, 15, 16].map(insn => `${insn}: (b7) r4 = 0`),
      '17: (85) call bpf_loop#181',
      '',
      'from 17 to 20: frame1: R1=scalar() R2=fp[0]-16 R10=fp0 cb',
      `20: (79) r0 = *(u64 *)(r2 +0)         ; frame1: R0=${known} R2=fp[0]-16 cb`,
      '21: (95) exit',
      'At callback return the register R0 has smin=0 smax=255 should have been in [0, 1]',
    );
  it('of which the kernel knows less', () =>
    expect(explainLog(collection, logged('scalar(smin=0,smax=umax=255,var_off=(0x0; 0xff))'))).toBe('narrower'));
  it('of which it knows the same', () =>
    expect(
      explainLog(collection, logged('scalar(smin=smin32=0,smax=umax=smax32=umax32=1,var_off=(0x0; 0x1))')),
    ).toBeUndefined());
});

describe('a way', () => {
  const body = (limit: number): string =>
    `r1 = *(u8 *)(r9 + 0)\nr2 = 0\nif r1 > ${limit} goto far\ngoto out\nfar: r2 = 1\nout: r0 = 0\nexit`;
  const logged = lines(
    '8: (71) r1 = *(u8 *)(r9 +0)           ; R1=scalar()',
    '9: (b7) r2 = 0                        ; R2=0',
    '10: (25) if r1 > 0xff goto pc+1',
    '11: (05) goto pc+1',
    '13: (b7) r0 = 0                       ; R0=0',
    '14: (95) exit',
    '',
    'from 10 to 12: R0=map_value(map=array,ks=4,vs=48) R1=scalar(umin=256) R2=0 R10=fp0',
    '12: (b7) r2 = 1                       ; R2=1',
    '13: (b7) r0 = 0                       ; R0=0',
    '14: (95) exit',
    'BPF_EXIT instruction in main prog would lead to reference leak',
  );
  it('that is dead here', () => expect(explainLog(collectionOf(subject(body(255))), logged)).toBe('dead'));
  it('that is walked here', () => expect(explainLog(collectionOf(subject(body(254))), logged)).toBeUndefined());
  it('that is dead here, while another goes to the same place', () => {
    const text = `r1 = *(u8 *)(r9 + 0)\nr2 = 0\nif r1 > 255 goto far\nif r1 > 7 goto far\nfar: r2 = 1\nout: r0 = 0\nexit`;
    const at = (other: number): string =>
      lines(
        '8: (71) r1 = *(u8 *)(r9 +0)           ; R1=scalar()',
        '9: (b7) r2 = 0                        ; R2=0',
        '10: (25) if r1 > 0xff goto pc+1',
        '11: (25) if r1 > 0x7 goto pc+0',
        '12: (b7) r2 = 1                       ; R2=1',
        '13: (b7) r0 = 0                       ; R0=0',
        '14: (95) exit',
        '',
        `from ${other} to 12: R0=map_value(map=array,ks=4,vs=48) R1=scalar(umin=8) R2=0 R10=fp0`,
        '12: (b7) r2 = 1                       ; R2=1',
        'BPF_EXIT instruction in main prog would lead to reference leak',
      );
    expect(explainLog(collectionOf(subject(text)), at(10))).toBe('dead');
    expect(explainLog(collectionOf(subject(text)), at(11))).toBeUndefined();
  });
  it('says where the numbering starts', () =>
    expect(collectionOf(subject('out: exit')).programs.get('fuzz')!.insns.length).toBe(START + 1));
});

describe('"No program to jit"', () => {
  const bug = 'verifier bug: No program to jit at insn 8 (subprog < 0)';
  const callback = 'cb: r0 = 0\nexit';
  it('where a callback is only named', () =>
    expect(
      explainLog(collectionOf(subject(`if r9 != 0 goto out\nr2 = func[cb] ll\nout: r0 = 0\nexit\n${callback}`)), bug),
    ).toBe('callback'));
  it('where it runs no times', () =>
    expect(
      explainLog(
        collectionOf(subject(`out: r1 = 0\nr2 = func[cb] ll\nr3 = 0\nr4 = 0\ncall 181\nr0 = 0\nexit\n${callback}`)),
        bug,
      ),
    ).toBe('callback'));
  it('where it runs', () =>
    expect(
      explainLog(
        collectionOf(subject(`out: r1 = 1\nr2 = func[cb] ll\nr3 = 0\nr4 = 0\ncall 181\nr0 = 0\nexit\n${callback}`)),
        bug,
      ),
    ).toBeUndefined());
});

describe.skipIf(kernelMissing() !== undefined)('the running kernel', () => {
  it('walks to a reference leak where bounds and bits contradict each other', () => {
    const text = `r3 = *(s8 *)(r9 + 32)
w3 = w3
r3 += 47
if w3 & -2147483648 goto over
over: if r3 > 1 goto out
r1 = map[ring] ll
r2 = 48
r3 = 0
call 131
out: r0 = 0
exit`;
    expect(explain(subject(text, 'sched_cls'))).toBe('dead');
  });
  it('forgets a remainder', () => {
    const text = 'r1 = *(u32 *)(r9 + 0)\nr1 %= 8\nr9 += r1\nr0 = *(u8 *)(r9 + 16)\nout: r0 = 0\nexit';
    expect(explain(subject(text))).toBe('narrower');
  });
});

it.each([
  [
    '-8',
    { kind: 'scalar', offset: 0n, known: { smin: -8n, umax: (1n << 64n) - 8n, umax32: (1n << 32n) - 8n, mask: 0n } },
  ],
  ['P0xffffffff80000000', { kind: 'scalar', known: { smin: -(1n << 31n), smin32: -(1n << 31n), umin32: 1n << 31n } }],
  ['fp[1]-16', { kind: 'fp', offset: -16n, known: { umax: 0n, mask: 0n } }],
  [
    'pkt(id=3,off=4,r=8,smin=-1,smax=0xfffffffe)',
    { kind: 'pkt', offset: 4n, range: 8n, known: { smin: -1n, umin: 0n } },
  ],
  ['map_value(map=a,ks=4,vs=48,imm=-8)', { kind: 'map_value', offset: 0n, known: { smin: -8n, smax: -8n } }],
  [
    'scalar(id=2+5,smin=umin=5,var_off=(0x1; 0xfe))',
    { kind: 'scalar', offset: 0n, known: { umin: 5n, value: 1n, mask: 254n } },
  ],
])('reads %s', (text, expected) => expect(parseRegister(text)).toMatchObject(expected));
