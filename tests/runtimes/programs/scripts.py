"""Languages whose programs an interpreter reads as they are."""

from pathlib import Path

from runtimes.programs.language import Language

_SH_HELLO = 'echo "hello $1|$2"\nread -r line\necho "$line"\nexit 3\n'
_SH_ERROR = "set -e\nno-such-program\n"
_SH_LOOP = "echo looping >&2\nwhile :; do :; done\n"
_SH_HOG = "all=0123456789\nwhile :; do all=$all$all; done\n"

BASH = Language(
    name="bash",
    packages="bash",
    hello=_SH_HELLO,
    error=_SH_ERROR,
    says="no-such-program: command not found",
    loop=_SH_LOOP,
    hog=_SH_HOG,
)

DASH = Language(
    name="dash",
    packages="dash",
    hello=_SH_HELLO,
    error=_SH_ERROR,
    says="no-such-program: not found",
    loop=_SH_LOOP,
    hog=_SH_HOG,
)

_PY_HELLO = """
import sys
print("hello", "|".join(sys.argv[1:]))
print(input())
sys.exit(3)
"""
_PY_LOOP = 'import sys\nprint("looping", file=sys.stderr, flush=True)\nwhile True:\n    pass\n'
_PY_HOG = "all = []\nwhile True:\n    all.append(b'x' * (1 << 20))\n"

PYTHON = Language(
    name="python",
    packages="python3",
    hello=_PY_HELLO,
    error='raise ValueError("bad")',
    says="ValueError: bad",
    loop=_PY_LOOP,
    hog=_PY_HOG,
)

PYPY = Language(
    name="pypy",
    packages="pypy3",
    hello=_PY_HELLO,
    error='raise ValueError("bad")',
    says="ValueError: bad",
    loop=_PY_LOOP,
    cpu_ms=500,
    hog=_PY_HOG,
    memory_mib=128,
)

PERL = Language(
    name="perl",
    packages="perl-base",
    hello='printf "hello %s\\n", join("|", @ARGV);\nprint scalar <STDIN>;\nexit 3;\n',
    error='die "bad\\n";',
    says="bad",
    loop='print STDERR "looping\\n";\nwhile (1) {}\n',
    hog='my @all;\nwhile (1) { push @all, "x" x (1 << 20); }\n',
)

RAKU = Language(
    name="raku",
    packages="rakudo",
    hello='say "hello ", @*ARGS.join("|");\nsay $*IN.get;\nexit 3;\n',
    error='die "bad";',
    says="bad",
    loop='note "looping";\nloop {}\n',
    cpu_ms=1000,
    hog="my @all;\nloop { @all.push: buf8.allocate(1048576, 1) }\n",
    memory_mib=192,
)

PHP = Language(
    name="php",
    packages="php-cli",
    hello='<?php\necho "hello {$argv[1]}|{$argv[2]}\\n", fgets(STDIN);\nexit(3);\n',
    error='<?php\nfwrite(STDERR, "bad\\n");\nthrow new Exception("bad");\n',
    says="bad",
    loop='<?php\nfwrite(STDERR, "looping\\n");\nwhile (true);\n',
    hog="<?php\n$all = [];\nwhile (true) $all[] = str_repeat('x', 1 << 20);\n",
)

RUBY = Language(
    name="ruby",
    packages="ruby",
    hello="puts \"hello #{ARGV.join('|')}\"\nputs STDIN.gets\nexit 3\n",
    error='raise "bad"',
    says="bad (RuntimeError)",
    loop='STDERR.puts "looping"\nwhile true\nend\n',
    cpu_ms=400,
    hog='all = []\nloop { all << "x" * (1 << 20) }\n',
)

LUA = Language(
    name="lua",
    packages="lua5.4",
    hello='print("hello " .. table.concat(arg, "|"))\nprint(io.read())\nos.exit(3)\n',
    error='error("bad")',
    says="bad",
    loop='io.stderr:write("looping\\n")\nwhile true do end\n',
    hog='local all = {}\nwhile true do all[#all + 1] = string.rep("x", 1 << 20) end\n',
)

TCL = Language(
    name="tcl",
    packages="tcl",
    hello='puts "hello [join $argv |]"\nputs [gets stdin]\nexit 3\n',
    error='error "bad"',
    says="bad",
    loop='puts stderr "looping"\nwhile 1 {}\n',
    hog="while 1 { lappend all [string repeat x 1048576] }\n",
)

AWK = Language(
    name="awk",
    packages="gawk",
    runtime="gawk",
    hello="""
BEGIN {
    printf "hello %s|%s\\n", ARGV[1], ARGV[2]
    getline line < "-"
    print line
    exit 3
}
""",
    error='BEGIN { f = "nosuch"; @f() }',
    says="fatal",
    loop='BEGIN { print "looping" > "/dev/stderr"; while (1) ; }',
    hog='BEGIN { while (1) all[i++] = sprintf("%1048576s", "x") }',
)

SQLITE3 = Language(
    name="sqlite3",
    packages="sqlite3",
    hello="select 'hello ' || group_concat(arg, '|') from argv;\n.exit 3\n",
    stdout=b"hello one|two words\n",
    error="select * from nosuch;",
    says="no such table: nosuch",
    loop="""
select looping;
with recursive n(x) as (select 1 union all select x + 1 from n) select max(x) from n;
""",
    hog="""
create table t as
with recursive n(x) as (select 1 union all select x + 1 from n) select zeroblob(1000000) from n;
""",
)

OCTAVE = Language(
    name="octave",
    packages="octave",
    hello="""
printf("hello %s\\n", strjoin(argv()', "|"));
puts(fgets(stdin));
exit(3);
""",
    error='error("bad")',
    says="error: bad",
    loop='fputs(stderr, "looping\\n");\nwhile true\nend\n',
    cpu_ms=500,
    hog="all = {};\nwhile true\n    all{end + 1} = ones(1024, 1024);\nend\n",
    memory_mib=192,
)

RSCRIPT = Language(
    name="rscript",
    packages="r-base-core",
    hello="""
cat("hello ", paste(commandArgs(TRUE), collapse = "|"), "\\n", sep = "")
cat(readLines("stdin", 1), "\\n", sep = "")
quit(status = 3)
""",
    error='stop("bad")',
    says="Error: bad",
    loop='message("looping")\nwhile (TRUE) {}\n',
    cpu_ms=600,
    hog="all <- list()\nwhile (TRUE) all[[length(all) + 1]] <- rep(1, 131072)\n",
    memory_mib=192,
)

PROLOG = Language(
    name="prolog",
    packages="swi-prolog-nox",
    hello="""
:- initialization(main).
main :-
    current_prolog_flag(argv, Argv), append(_, [A, B], Argv), !,
    format("hello ~w|~w~n", [A, B]),
    read_line_to_string(user_input, Line), writeln(Line),
    halt(3).
""",
    error=":- X is bad + 1, print(X).\n",
    says="bad",
    loop=':- format(user_error, "looping~n", []), repeat, fail.\n',
    hog="take(All) :- length(Block, 100000), take([Block | All]).\n:- take([]).\n",
    memory_mib=96,
)

LISP = Language(
    name="lisp",
    packages="sbcl",
    hello="""
(let ((args (last *posix-argv* 2)))
  (format t "hello ~a|~a~%" (first args) (second args)))
(format t "~a~%" (read-line))
(finish-output)
(sb-ext:exit :code 3 :abort t)
""",
    error='(error "bad")',
    says="bad",
    loop='(format *error-output* "looping~%")\n(finish-output *error-output*)\n(loop)\n',
    hog="""
(let ((all nil))
  (loop (push (make-array 1048576 :element-type '(unsigned-byte 8) :initial-element 1) all)))
""",
    memory_mib=128,
)

RACKET = Language(
    name="racket",
    packages="racket",
    hello="""
#lang racket/base
(define args (current-command-line-arguments))
(printf "hello ~a|~a\\n" (vector-ref args 0) (vector-ref args 1))
(displayln (read-line))
(exit 3)
""",
    error='#lang racket/base\n(error "bad")\n',
    says="bad",
    loop='#lang racket/base\n(eprintf "looping\\n")\n(let loop () (loop))\n',
    cpu_ms=600,
    hog="#lang racket/base\n(let loop ([all '()]) (loop (cons (make-bytes 1048576 1) all)))\n",
    memory_mib=256,
)

SCHEME = Language(
    name="scheme",
    packages="guile-3.0",
    runtime="guile",
    hello="""
(use-modules (ice-9 rdelim))
(define args (cdr (command-line)))
(format #t "hello ~a|~a\\n" (car args) (cadr args))
(display (read-line)) (newline)
(exit 3)
""",
    error='(error "bad")',
    says="bad",
    loop="""
(define port (current-error-port))
(display "looping" port)
(force-output port)
(let loop () (loop))
""",
    hog="""
(use-modules (rnrs bytevectors))
(let loop ((all '())) (loop (cons (make-bytevector 1048576 1) all)))
""",
)

FORTH = Language(
    name="forth",
    packages="gforth",
    hello="""
: main
  ." hello " next-arg type ." |" next-arg type cr
  pad 80 stdin read-line throw drop pad swap type cr
  3 (bye) ;
main
""",
    error="1 0 / .\n",
    says="Division by zero",
    loop=': main s" looping" stderr write-line throw begin again ;\nmain\n',
    hog=": main begin 1048576 allocate throw 1048576 1 fill again ;\nmain\n",
)

EMACS = Language(
    name="emacs",
    packages="emacs-nox",
    hello="""
(princ (format "hello %s|%s\\n" (car command-line-args-left) (cadr command-line-args-left)))
(princ (concat (read-from-minibuffer "") "\\n"))
(kill-emacs 3)
""",
    error='(error "bad")',
    says="bad",
    loop='(message "looping")\n(while t)\n',
    hog="(let (all) (while t (push (make-string 1048576 ?x) all)))\n",
    memory_mib=128,
)

LLVM_IR = Language(
    name="llvm_ir",
    packages="llvm",
    hello="""
@format = constant [13 x i8] c"hello %s|%s\\0A\\00"
declare i32 @printf(i8*, ...)
declare i32 @getchar()
declare i32 @putchar(i32)
define i32 @main(i32 %argc, i8** %argv) {
entry:
    %first = getelementptr i8*, i8** %argv, i32 1
    %second = getelementptr i8*, i8** %argv, i32 2
    %a = load i8*, i8** %first
    %b = load i8*, i8** %second
    %text = getelementptr [13 x i8], [13 x i8]* @format, i32 0, i32 0
    call i32 (i8*, ...) @printf(i8* %text, i8* %a, i8* %b)
    br label %next
next:
    %c = call i32 @getchar()
    %end = icmp slt i32 %c, 0
    br i1 %end, label %done, label %copy
copy:
    call i32 @putchar(i32 %c)
    br label %next
done:
    ret i32 %argc
}
""",
    error="declare void @abort()\ndefine i32 @main() {\n    call void @abort()\n    ret i32 0\n}\n",
    says="",
    signaled=True,
    loop="""
@text = constant [9 x i8] c"looping\\0A\\00"
declare i64 @write(i32, i8*, i64)
define i32 @main() {
    %at = getelementptr [9 x i8], [9 x i8]* @text, i32 0, i32 0
    call i64 @write(i32 2, i8* %at, i64 8)
    br label %again
again:
    br label %again
}
""",
    hog="""
declare i8* @malloc(i64)
declare i8* @memset(i8*, i32, i64)
define i32 @main() {
    br label %again
again:
    %block = call i8* @malloc(i64 1048576)
    call i8* @memset(i8* %block, i32 1, i64 1048576)
    br label %again
}
""",
    memory_mib=128,
)

BRAINFUCK = Language(
    name="brainfuck",
    packages="beef",
    runtime="beef",
    hello=",----------[++++++++++.,----------]++++++++++.",
    stdout=b"a line\n",
    exit_code=0,
    error="[",
    says="",
    loop="+[]",
    looping="",
    hog="+[>+]",
    memory_mib=8,
)

FILE = Language(
    name="file",
    packages="",
    hello=Path("/bin/echo").resolve().read_bytes(),
    stdout=b"one two words\n",
    exit_code=0,
    error="#!/bin/sh\n" + _SH_ERROR,
    says="no-such-program: not found",
    loop="#!/bin/sh\n" + _SH_LOOP,
    hog="#!/bin/sh\n" + _SH_HOG,
)

LANGUAGES = (
    BASH, DASH, PYTHON, PYPY, PERL, RAKU, PHP, RUBY, LUA, TCL, AWK, SQLITE3, OCTAVE, RSCRIPT,
    PROLOG, LISP, RACKET, SCHEME, FORTH, EMACS, LLVM_IR, BRAINFUCK, FILE,
)  # fmt: skip
