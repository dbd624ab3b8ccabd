"""The words of a text, and what each of them is evidence of: tables, and nothing that is learned.

Guarantees

- What stands in a table can never be outvoted: a reading's score is that of these words, or more.
- `minors` asks "is a child depicted?", not "is it harmful": what follows is the policy's decision. A person of
  unstated age ("girl") beside sexual content counts as a child.

Left to others: what no word says ("they collapsed on the bed, panting"), which is `meaning.py`; who is named, which is
`people.py`.

Table grammar: entries are separated by commas, alternatives by `/`, `word*` matches any ending, `..` up to
three words; each line of a table is `category weight: entries`. An entry's weight is its score alone; several add up as
independent evidence, 1 - ∏(1 - w).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from ledger.consent.grant import Context
from safety.prompt.normal import WORD, fold

# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────

_GROUPS: Final = (
    "women/females/blacks/jews/muslims/gays/lesbians/immigrants/migrants/refugees/foreigners/mexicans/asians/arabs/"
    "africans/indians/christians/hindus/latinos/gypsies/queers/homosexuals/transsexuals/minorities"
)
_KINDS: Final = "black/jewish/muslim/gay/lesbian/trans/transgender/disabled/immigrant/asian/arab/african/indian/chinese/mexican"
_OF_A_KIND: Final = f"{_KINDS} people/person/men/man/women/woman/lives/folk"
_INSULTS: Final = "vermin/scum/parasites/cockroaches/inferior/subhuman/worthless/idiots/revolting/repulsive/despicable/uncivilised/uncivilized"
_LIKENED_TO: Final = f"{_INSULTS}/filth/filthy/trash/disgusting/animals/pest/pests/rats/insects/disease/apes/monkeys/pigs/plague/cancer/stupid/dumb/vile/dirty"
_PEOPLE: Final = "him/her/them/people/everyone/someone/man/woman/men/women/person/child/children/kid/kids/family/victim*/crowd"

_TABLE: Final = f"""
# acts, organs and genres named outright
sexual 900: porn*, xxx, hentai, blowjob*, handjob*, cum, cumming, cumshot*, orgasm*, masturbat*, vulva*,
    penis*, vagina*, vaginal, clit, clits, clitor*, lovemaking, cock/dick/penis/fingers .. inside/mouth,
    creampie*, gangbang*, bukkake, futanari, ahegao, dildo*, upskirt*, ejaculat*, bestiality, incest,
    rape/raped/raping/rapes, molest*, nsfw, sex act*/scene*/tape*/toy*/position*/slave*,
    having/have/has/had sex, oral/anal/group sex, deepthroat*, cunnilingus, fellatio, threesome*, orgy,
    orgies, semen, topless, pussies, fucked/fucking/fuck her/him/me
sexual 800: nude, nudes, nudity, naked, nip slip, camgirl*, nackt*, desnud*, spogliat*, onlyfans,
    cock/dick in/inside/hard, hard/huge/big/hairy cock/dick/penis, erotic*, erotik*, horny, milf, vibrator,
    without .. clothes/clothing, no clothes, wearing nothing,
    taking/takes/take/took off .. clothes/clothing/dress/shirt/bra, remov* .. clothes/clothing/dress/bra,
    strip* naked, sexo, sesso, ficken, titten, tetas, голая, голые, голую, голой, голый, обнажен*, обнаж*,
    секс, сексуальн*, порно*, раздет*, عارية, جنسي, सेक्स, नंगी
sexual 700: pussy, spread legs, legs spread .. wide/open, boob*, tits, titties, nipple*, areola*, sexual*,
    sexting, undress*, unclothed, unclad, striptease*, bdsm, make/making/made love, genital*, testicle*,
    scrotum, anus, anal, asshole, sex, bare/exposed/naked breast*/bottom/butt/buttocks/chest/nipples, arous*,
    fetish*, lewd, deshabill*, undressing, busty, pelada, pelado, peladas, seins nus,
    femme/fille/homme nue/nu, mujer/chica nuda, nuda/nudo/nudi, jouissance, cock, cocks, copulat*, fornicat*,
    voluptuous/naughty/hot .. body, ride/rides/riding/rode him/her, busen
sexual 600: pleasured, pleasuring, flesh slapping/against flesh,
    wearing only .. underwear/lingerie/panties/bra, only in .. underwear, take/takes/took her .. behind,
    bodily fluids, lingerie, panties, dick, dicks, buttock*, bondage, kinky, lustful*, slut*, whore*,
    erection, hooker*, stripper*, sexy, sexiest, seduc*, voyeur, voyeurism, scantily clad, skimpy,
    provocative pose*, see through/transparent/sheer/wet dress/shirt/blouse/top/clothes/clothing/t,
    escort girl, playboy model, thong, nua, nuas, pelad*, curves of her body,
    her body .. trembl*/arch*/writh*, between .. legs/thighs, bikini .. pose/posing/model/photo/hot,
    hot .. bikini
sexual 450: sensual*, voyeuristic*, straddl*, grinding against, make/making out session,
    bodies becoming/pressed, body pressed, object of desire, breast*, ass, asses, cleavage, underwear, bra,
    bras, brothel*, prostitut*, moan*, moaning, thicc, crotch, intimate parts, butt, groin, flashing her,
    love scene, pole danc*, erog*, baiser, sexe, braless, pin up, pinup, boudoir, courtesan*, concubine*,
    bare skin, harem, venus .. bath*, bathing women, panting, whimper*, inside her/him/me, fuck*,
    tongue/hands/lips/mouth/fingers .. body/breasts/neck/thighs/skin
sexual 300: lust*, caress*, bikini*, swimsuit*, shirtless, bare chested, voluptuous, crave*, insatiable, steamy,
    kissing her/his neck, bodies entwined, sultry, beg/begs/begging for more, groan*, penetrat*, orgiast*, plaything
sexual 250: pleasure*, desire*, swollen, climax*, temptress, thigh/thighs, thrust/thrusts/thrusting, passionately,
    curvy, ecstasy, naughty, hips, curves, each other s company, intimate/intimately, alluring, stockings, garter*, corset*
sexual 180: sweat/sweaty/sweating, uninhibited, undeniable, hunger/hungry for, abandon, bedroom, tantali*, bedsheets,
    on bed, in bed, on the bed, her/his/my body, wet, tight, teasing/teases

# a child is depicted
minors 900: toddler*, preteen*, pre teen*, tween/tweens, schoolgirl*, schoolboy*,
    school girl*/boy*/child*/kid*, underage*, under age*, kindergart*, preschool*, pre school*, loli, lolis,
    lolicon, shota, shotacon, jailbait, little/small/young/tiny/cute/adorable girl*/boy*/kid/kids, newborn*,
    infant, infants, pedo*, paedo*, elementary/primary/middle school*, grade/grader schooler/student,
    prepubescent, prepubert*, minor child*, bebe, bebes, fillette*, gamine, gamins, kleinkind*,
    minderjahrig*, minorenne*, colegiala*, ecolier*, lyceenne*, schulmadchen, menor/menores de edad/idade,
    несовершеннолетн*, школьниц*, школьник*, младен*, малыш*, नाबालिग, قاصر
minors 800: child, children, childs, childlike, kid, kids, kiddie*, baby, babies, teen, teens, teenage*,
    teenager*, adolescent*, juvenile*, youngster*, minors, high schooler*,
    high school .. girl*/boy*/student*/cheerleader*/couple, boy/girl scout*, cub scout*,
    first/second/third/fourth/fifth/sixth/seventh/eighth/ninth/tenth grader*/grade, un/una/el/la/mi/pequeno/pequena nino/nina, ninos, ninas,
    nene, nenes, adolescente*, enfant*, kinder, kindern, kindes, madchen, jugendlich*,
    ein/das/dem/kleines kind, bambin*, ragazzin*, neonat*, crianca*, menino*, menina*, bimbo/bimba/bimbi,
    garotinha*, petite/petites/jeune/jeunes fille*/garcon*, kleiner/kleine junge*, saugling*, ninez, orphan*,
    quinceanera*, sweet sixteen, ребенок, ребенка, дети, детей, детск*, девочк*, мальчик*, подрост*, طفل,
    طفلة, أطفال, बच्चा, बच्ची, बच्चे, बच्चों
minors 650: my/your/his/her/our/their/a/an son/daughter/grandson/granddaughter/sons/daughters,
    my/your/his/her/our/their little/young .. son/daughter/sister/brother/one,
    little/kid/baby sister/brother, boys and girls, girls and boys, is a minor, barely legal,
    under/below eighteen/seventeen/sixteen/fifteen/thirteen, not yet eighteen, years young,
    son/daughter/nephew/niece aged, playground/classroom full, pupils in class*
minors 450: girls school, high school*, school uniform*, nino/nina, chica/chicas/chico, muchach*, garota*, garcon*,
    mineure*, jeune, junge, madel, ragazza, ragazze, figlia, figlio, filha, filho, hija, hijo, young teen*,
    young looking, childish body, pigtails, childlike body, nursery, playpen, playground, cradle, pacifier,
    diaper*
minors 300: a minor, girl/girls/1girl/2girls/girly, boy/boys/1boy/2boys, daughter/daughters, son/sons,
    young/younger, pupil, stepson/stepdaughter/stepsister/stepbrother, student/students, youthful, school,
    flat chest*, petite, lolita, juvenil*, puberty, niece, nephew, joven, девушк*, लड़की, लड़का, بنت, ولد

# violence beyond what a film usually shows
violence 850: behead*, decapitat*, dismember*, disembowel*, mutilat*, massacre*, bloodbath, eviscerat*,
    snuff film*, skinned/flayed/burn*/buried/boiled alive, slit* .. throat*, gouge* .. eye*, torture*,
    torturing, lynching, lynched, lynch mob, genocide*, mass/school shooting*, shot in the head/face,
    severed .. head*/limb*/arm*/leg*/hand*/fingers, blood everywhere, head explod*,
    face .. explode*/explosion, hack* .. to death, beat*/stab*/beaten/stoned .. to death,
    bleeding everywhere, chop* .. head/arms/legs/body, execution of, degollad*, enthaupt*, torturad*,
    decapitad*
violence 700: gore, gory, entrails, intestine*, viscera, flay*, impale*, impaling,
    torn/tear*/ripp* .. in half, organ harvest*, lobotomi*, strangl*, cannibal*, covered in blood,
    kill*/murder*/shoot*/stab*/slaughter*/execut* .. {_PEOPLE}, shot dead, dead bodies/body,
    pile of bodies/corpses, public execution*, hanging from a noose, suicide bomb*, terrorist attack*,
    kill/killing yourself/all, tortur*, eating human*, human/eaten flesh, self mutilat*, animal cruelty,
    matar a, umbringen, убить, убийств*
violence 550: stab, stabs, stabbed, stabbing, murdering, slaughter*, corpse*, rape/raped/raping/rapes,
    rapist*, hanged, domestic violence, abuse/abusing .. child*/woman*/women/wife, bloodied, burn victim*,
    melting/rotting face/arm/flesh/skin, punch*/kick* .. face, gunned down, war crime*, mangled,
    shredded/torn/ripped .. face/flesh/skin/body/limbs, death camp*, cadaver*, open wound*, lying dead,
    blood .. dripping/coming/mouth/face/hands, chok* .. each/him/her/man/woman/person
violence 400: kill, kills, killing, killed, murder, murders, murdered, assassinat*, terroris*, bleeding,
    bloody, blood, assault*, autopsy, kidnap*, brutal, brutally, brutality, abuse*, violent*, violence,
    wound*, dead man/woman/person, victim*, rotting, decay*, decompos*, beaten, beating, serial killer*,
    threaten* .. gun/knife, screaming in pain/agony, maim*
violence 200: war/wars/warfare/battle/battles/battlefield*/fight/fights/fighting/fought/combat/duel/riot/riots, sword fight*,
    gun/guns/rifle*/pistol*/knife/knives/weapon*/machete*/chainsaw*/gunfight*/gunfire/shootout*/shooting,
    bomb*/grenade*/explosion*/explode*, attack*/killer*/murderer*/executioner*, punch*, zombie*, hostage*, guts

# hate
hate 950: nigger*, nigga*, kike*, faggot*, tranny, trannies, wetback*, gook*, raghead*, towelhead*, spic,
    spics, chink, chinks, paki, pakis, coon, coons, muzzie*, mudslime*, shitskin*, white power, heil hitler,
    sieg heil, ethnic cleansing, white supremac*, race war, gas the jews, death to .. {_GROUPS},
    kill/exterminate/gas/eradicate/hang/shoot/burn/murder/deport all .. {_GROUPS}
hate 750: hate/hates/despise*/loathe*/detest*/hatred/contempt .. {_GROUPS},
    hate/hates/despise*/loathe*/detest*/hatred/contempt .. {_OF_A_KIND}, {_GROUPS} are/is .. {_LIKENED_TO},
    {_OF_A_KIND} .. are/is .. {_LIKENED_TO}, {_GROUPS} .. {_INSULTS}, {_OF_A_KIND} .. {_INSULTS},
    {_INSULTS} {_GROUPS}, {_INSULTS} {_KINDS}, exterminat*/rid .. {_GROUPS}, exterminat*/rid .. {_OF_A_KIND},
    {_GROUPS} .. deserve/should/must .. die/hang/burn/burned/hanged/deported/exterminated/disappear,
    {_OF_A_KIND} .. deserve/should/must .. die/hang/burn/burned/hanged/deported/exterminated/disappear,
    {_GROUPS}/people have/has no place/rights/value, lives .. worth nothing,
    {_GROUPS} .. not/nothing human/deserve/worth, {_OF_A_KIND} .. not/nothing human/deserve/worth, subhuman*,
    untermensch*, master/inferior race, ku klux klan, kkk, blackface, retard/retards/retarded, black slave*,
    swastika*, dyke, dykes
hate 600: nazi propaganda/salute, neo nazi*, bitch/bitches, cunt/cunts, racial slur*, hate speech,
    antisemit*, homophob*, islamophob*, white master*, fucking/stupid/damn {_GROUPS},
    fucking/stupid/damn {_KINDS}, cripples
hate 400: hitler, nazi/nazis, slave/slaves/slavery, supremacist*, bigot*, xenophob*, idiot*, stupid,
    inferior, savages, racist, negroes

# self-harm
self_harm 850:
    kill*/hang*/shoot*/drown*/starv*/stab*/burn* myself/himself/herself/themselves/yourself/itself,
    self harm*, selfharm*, self injur*, self mutilat*, cut*/slit*/slash*/slic* .. wrist*/forearms, thinspo*,
    pro ana, proana, end*/take*/taking .. own/my life, commit* suicide, suicide note*/pact*/method*,
    selbstmord, suicidio, suicidarse, самоубийств*, slash*/cut*/slic* myself/himself/herself/yourself,
    blade/razor .. wrist*/arm/arms
self_harm 650: suicide, suicides, suicidal*, overdos*, anorexi*, bulimi*, noose, want*/wish* .. die,
    want*/wish* .. dead, hurt* myself/herself/himself/yourself, starve* to lose, purg* .. meal*/food,
    jump* off .. bridge/building/roof .. die

# crime someone could copy
illicit 850: pipe bomb*,
    how to/guide to/instructions .. make/build/cook/synthesi* .. bomb*/explosive*/meth/drugs/gun/weapon*/poison,
    make/build/making/building .. bomb/explosive*/ghost gun,
    cook*/smok*/snort*/inject* .. meth/crack/heroin/cocaine, meth lab*, ghost gun*, 3d printed gun*,
    child labor, human traffick*, sex traffick*, ricin, sarin, nerve agent*, untraceable gun
illicit 650: meth, methamphetamine*, cocaine, heroin, fentanyl, crack pipe, drug deal*, drug lab*,
    drug traffick*, drug lord*, sell*/buy*/deal* drugs, lines of coke, credit card fraud, identity theft,
    steal* .. identit*/credit/passport*, fake id, phishing, ransomware,
    fake/forged/counterfeit* passport*/money/id/ids/bills/document*, counterfeit*, money launder*,
    hack* into, smok* .. weed/joint/blunt/bong, ecstasy pill*, lsd tab*, cyanide,
    robbing .. bank/people/store/woman/man
illicit 400: cannabis, marijuana, dmt, bong, weed, drug/drugs, narcotic*, opium, lsd, hashish, malware, extort*, shoplift*
illicit 200: robber*/robs, burglar*, smuggl*, scam/scams/scammer*, bribe*, cartel, gangster*, mafia, syringe*, arson*,
    blackmail*, trespass*, loot*, theft, criminal*
"""

_CJK: Final = (
    (
        "sexual",
        850,
        "裸体 裸照 裸體 裸女 全裸 色情 性爱 性愛 做爱 做愛 脱衣 脫光 乳房 淫 黄片 ヌード セックス エロ 裸の 누드 섹스 알몸 야동",
    ),
    (
        "minors",
        850,
        "儿童 兒童 小孩 孩子 孩童 女孩 男孩 婴儿 嬰兒 幼女 幼儿 幼兒 萝莉 蘿莉 正太 少女 少年 未成年 小学生 小學生 中学生 中學生 高中生 学生妹 宝宝 寶寶 子供 子ども こども 幼児 赤ちゃん 女子高生 高校生 ロリ ショタ 어린이 아기 소녀 소년 여고생 미성년 초등학생 아이들",
    ),
    ("violence", 800, "杀人 殺人 斩首 斬首 虐杀 虐殺 血腥 酷刑 살인 고문"),
    ("self_harm", 850, "自杀 自殺 自残 자살"),
)

_CONTEXT_WORDS: Final = """
political 0: election*, elect, vote, votes, voter*, voting, ballot*, president*, senator*, congress*,
    parliament*, minister*, politic*, campaign*, protest*, referendum*, candidate*, democrat*, republican*,
    propaganda, white house, government*, mayor*, governor*, abortion, rally, rallies, activist*, regime,
    elecciones, wahlkampf, выборы
romantic 0: kiss*, passion, passionate*, making out, romantic*, romance*, lover, lovers, in love,
    love scene*, wedding*, bride*, groom, honeymoon*, boyfriend*, girlfriend*, fiance*, valentine*, embrac*,
    flirt*, cuddl*, propos* to, marry, marries, date night, candlelit, sweetheart*, beso*
advertising 0: advert*, ad, ads, commercial, commercials, endors*, sponsor*, buy now, buy our, promo*,
    brand/brands/branded, billboard*, testimonial*, influencer*, limited offer, marketing, slogan*, discount*,
    recommend* .. product*, product placement, werbung, publicidad
"""

_HARMLESS: Final = """
harmless 0: kill the lights/light/engine/music/sound, killer whale*, lady killer, killing time,
    shooting star*, road kill, photo/film shoot/shoots/shooting,
    shoot/shooting a/the/this/our film/movie/scene/footage/video/script/hoop,
    shoot/shooting hoops/pool/location/schedule/script/range/on, to kill for, dressed to kill, smash hit*,
    bloody mary, blood orange*/moon/pressure/test*/donation/donor*, blue blood, murder mystery,
    murder of crows, stab at, battle of the bands, dance/rap battle, snowball/pillow/water/food fight*,
    photo/bath bomb*, star wars, tug of war, glue/water/spray/nerf gun*,
    butter/palette/kitchen/pocket/chef/chefs knife/knives, heart/panic attack*, punch bowl*/line,
    fruit punch, suicide squad, drug store*/discovery/trial*, pulling weeds,
    explosion/explosions of colour/color/colours/colors/flavour/flavor/paint/confetti/flowers,
    fight/fights/fighting off/for/against/back sleep/tears/cancer/hunger,
    naked eye*/flame*/truth/tree*/branches/bulb*, naked mole rat*, nude lipstick/heels/tone*/shade*, hip hop,
    rose hips, breast cancer/pocket*/stroke/plate*, chicken/turkey/duck breast*, sexual reproduction,
    same/opposite/biological sex, dick van/tracy/grayson/cheney, k dick, moby dick, cum laude, cock a doodle,
    cock crow/crows, pussy willow*, strip mall, comic strip*, rape seed/oil, wild abandon, make love not war,
    kick ass,
    wet paint/street*/road*/pavement/asphalt/ground/floor/leaves/grass/stone*/sand/hair/snow/plate/cobble*/rock*/nose,
    tight shot*/close/framing/frame/crop/schedule/budget, in/c/d/e/f/g/b minor, ursa/asia minor,
    baby blue/pink/steps/step/grand/carrot*/spinach/corn/boomer*/powder/monitor, baby s breath, oh/hey baby,
    baby elephant*/dragon*/goat*/bird/birds/turtle*/penguin*/animal*/panda*/fox/foxes/bear/bears/deer/seal/seals/duck*,
    baby owl/owls/dinosaur*/sloth*/whale*/monkey*/otter*/tiger*/rabbit*/giraffe*/hippo*, kid gloves/leather,
    goat kid*, billy the kid, child s play, inner child, child process*, children s book*,
    kinder surprise/egg/than/and, be kinder,
    young woman/man/women/men/lady/ladies/adult/adults/couple/professional*/entrepreneur*/mother/father/parents,
    college/university/law/phd/graduate/medical/film/art/exchange student/students,
    film/art/law/medical/business/driving school/schools, school of, school bus/buses, high school reunion*,
    a minor key/chord/scale/detail*/change/changes/character*/role/issue/planet*/setback*/league/hit/accident/injury,
    son of a, son et lumiere, son goku, el nino, la nina, nina simone, beach/backstreet boys, spice girls,
    boy band*, plant/tree/garden nursery, nursery rhyme*, cat s cradle, cradle of civilization, teen titans,
    nazi hunter*, chink of light, chink in, spic and span, maine coon*, coon hound*, dyke/dykes along,
    commercial airliner*/district*/aircraft/flight*/kitchen*/building*, brand new, rally car*/driver*/race
"""
"""Phrases in which the words above mean something else. Only the words of the phrase itself are excused."""

_NUMBERS: Final = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
_NOT_A_PERSON: Final = (
    r"(?![\s\-]*(?:single |malt |oak |giant |pine |stone |used |old |family )?(?:whisk|scotch|bourbon|rum\b|wine|cheddar|cheese|brandy|"
    r"cognac|port\b|car\b|truck|van\b|bus\b|boat|ship|tree|oak|house|home|building|castle|church|bridge|barn|company|startup|brand|"
    r"tradition|mystery|case|puzzle|secret|recipe|dog|pupp|cat\b|kitten|horse|mare|foal|elephant|tortoise|parrot|lion|tiger|bear|"
    r"computer|laptop|phone|camera|piano|guitar|violin|film|song|photo|painting|war\b|bonsai|vinegar|marriage|feud|record|malt))"
)
_A_NUMBER: Final = re.compile(rf"\d+|\b(?:{_NUMBERS}|eighteen)|[一二三四五六七八九十]")
_COUNT: Final = rf"(?:(?<![\d.,])(?:1[0-7]|0?\d)|\b(?:{_NUMBERS}))"
_AGES: Final = re.compile(
    "|".join(
        (
            rf"{_COUNT}[\s\-]*(?:and a half[\s\-]*)?(?:years?|yrs?|yr|y)[\s\-]*(?:olds?\b|o\b|of age\b){_NOT_A_PERSON}",
            rf"{_COUNT}[\s\-]*(?:yo|y/o|jahrige\w*|jahre alt|anos de edad|anos de idade|ans\b|anni\b|лет\b|года?\b)",
            rf"\b(?:de|con|com|tem|tiene) {_COUNT} anos\b",
            rf"(?<!\d)\d{{1,2}}[\s\-]*(?:months?|weeks?|days?|mo)[\s\-]*olds?\b{_NOT_A_PERSON}",
            rf"\b(?:aged?|age of|age is|turns|turning|turned)\s*[:=]?\s*{_COUNT}(?![\d\-/%.])\b(?!\s*(?:degrees|times|left|right|pages?|heads?))",
            r"(?<!\d)(?:1[0-7]|\d)\s*(?:岁|歲|歳|才の|살|세\b)|[一二三四五六七八九十][岁歲歳]",
            rf"\b(?:i|he|she|who|they)\s+(?:was|is|am|were)\s+(?:only\s+|just\s+|barely\s+)?{_COUNT}(?=\s*(?:[.,;!?)]|$|(?:and|when|but|at)\b))",
            r"\b(?:under|below|younger than)[\s\-]*(?:the )?age of (?:1[0-8]|\d|eighteen|sixteen)\b",
            r"\b(?:under|younger than)[\s\-]*(?:1[3-8]|eighteen)s?\b(?!\s*(?:%|percent|dollars|min|sec|hours|euros|k?m\b|miles|degrees|feet|inches))",
        )
    )
)

# ── matching ──────────────────────────────────────────────────────────────────────────────────────────────


class _Word(NamedTuple):
    """One place of a phrase: the words that fill it, and beginnings that do."""

    exact: frozenset[str]
    beginnings: tuple[str, ...]

    def accepts(self, token: str) -> bool:
        return token in self.exact or token.startswith(self.beginnings)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """One phrase of a table; None is a gap of up to three words."""

    label: str
    weight: int
    words: tuple[_Word | None, ...]

    def span(self, tokens: list[str], at: int, place: int = 0) -> tuple[int, ...] | None:
        """The token positions this phrase takes when its `place`-th word stands at `at`."""
        if place == len(self.words):
            return ()
        wanted = self.words[place]
        if wanted is None:
            return next(
                (s for skip in range(4) if (s := self.span(tokens, at + skip, place + 1)) is not None), None
            )
        if at >= len(tokens) or not wanted.accepts(tokens[at]):
            return None
        rest = self.span(tokens, at + 1, place + 1)
        return None if rest is None else (at, *rest)


_HEADED: Final = re.compile(r"(\w+) (\d+):")


def _phrases(tables: str) -> Iterator[tuple[str, int, str]]:
    label, weight = "", 0
    for line in tables.splitlines():
        if line.startswith("#"):
            continue
        if head := _HEADED.match(line):
            label, weight = head[1], int(head[2])
        for phrase in line[head.end() if head else 0 :].split(","):
            if phrase.strip():
                yield label, weight, phrase


class _Lexicon:
    """Phrases, found by their first word or its first three letters."""

    def __init__(self, tables: str) -> None:
        self._exact: dict[str, list[_Entry]] = {}
        self._beginning: dict[str, list[_Entry]] = {}
        self._starts: dict[str, tuple[str, ...]] = {}
        self.vocabulary: set[str] = set()
        for label, weight, phrase in _phrases(tables):
            entry = _Entry(label, weight, tuple(map(_place, phrase.split())))
            first = entry.words[0]
            if first is None:
                raise ValueError(phrase)
            for word in first.exact:
                self._exact.setdefault(word, []).append(entry)
            for three in {beginning[:3] for beginning in first.beginnings}:
                self._beginning.setdefault(three, []).append(entry)
            for place in filter(None, entry.words):
                self.vocabulary.update(place.exact, place.beginnings)
                for start in place.beginnings:
                    self._starts[start[:3]] = (*self._starts.get(start[:3], ()), start)

    def knows(self, token: str) -> bool:
        return token in self.vocabulary or token.startswith(self._starts.get(token[:3], ()))

    def find(self, tokens: list[str]) -> Iterator[tuple[_Entry, tuple[int, ...]]]:
        for i, token in enumerate(tokens):
            for entry in (*self._exact.get(token, ()), *self._beginning.get(token[:3], ())):
                if (span := entry.span(tokens, i)) is not None:
                    yield entry, span


def _place(words: str) -> _Word | None:
    if words == "..":
        return None
    alternatives = [fold(word) for word in words.split("/")]
    if any(len(word.rstrip("*")) < 3 for word in alternatives if word.endswith("*")) or ":" in words:
        raise ValueError(words)
    return _Word(
        frozenset(word for word in alternatives if not word.endswith("*")),
        tuple(word[:-1] for word in alternatives if word.endswith("*")),
    )


_LEXICON: Final = _Lexicon(_TABLE + _CONTEXT_WORDS + _HARMLESS)
_CJK_WORDS: Final = tuple(
    (category, weight, re.compile("|".join(map(re.escape, words.split()))))
    for category, weight, words in _CJK
)
_AGE_WORDS: Final = frozenset(
    (
        f"{_NUMBERS}|eighteen|year|years|yrs|yr|yo|old|olds|aged|age|turns|turning|turned|was|were|is|am|i|he|she|who|they|under|younger|"
        "day|days|month|months|week|weeks|jahre|alt|anos|edad|idade|de|con|com|tem|tiene|ans|anni|лет|год|года"
    ).split("|")
)
"""Words the age patterns are made of: a view that brings one is worth reading."""
VOCABULARY: Final = frozenset(word for word in _LEXICON.vocabulary | _AGE_WORDS if len(word) > 2)


@dataclass(slots=True)
class Reading:
    """What one view says: evidence by category, and contexts named."""

    scores: dict[str, int]
    matched: dict[tuple[str, str], None]
    contexts: set[Context]


def read(view: str) -> Reading:
    """What one view says."""
    tokens = WORD.findall(view)
    found = list(_LEXICON.find(tokens))
    harmless = {i for entry, span in found if entry.label == "harmless" for i in span}
    evidence: dict[str, dict[object, int]] = {}
    matched: dict[tuple[str, str], None] = {}
    contexts: set[Context] = set()
    for entry, span in found:
        if not harmless.isdisjoint(span):
            continue
        if entry.weight == 0:
            contexts.add(cast("Context", entry.label))
        else:
            evidence.setdefault(entry.label, {})[entry] = entry.weight
            matched[entry.label, " ".join(tokens[i] for i in span)] = None
    for age in _ages(view):
        evidence.setdefault("minors", {})["age"] = 900
        matched["minors", age] = None
    if not view.isascii():
        for category, weight, words in _CJK_WORDS:
            for word in dict.fromkeys(words.findall(view)):
                evidence.setdefault(category, {})[word] = weight
                matched[category, word] = None
    scores = {category: _together(weights.values()) for category, weights in evidence.items()}
    return Reading(scores, matched, contexts)


def _ages(view: str) -> Iterator[str]:
    """Ages under 18, sought only around numbers: most of a text has none."""
    text = " ".join(view.split())  # or a hundred blanks would carry the age out of its number's surroundings
    start = end = 0
    for number in (*_A_NUMBER.finditer(text), None):
        if number is None or number.start() - 24 > end:
            yield from (age[0].strip() for age in _AGES.finditer(text, start, end))
            start = max(number.start() - 24, 0) if number else 0
        end = number.end() + 60 if number else 0


def _together(weights: Iterable[int]) -> int:
    doubt = 1.0
    for weight in weights:
        doubt *= 1 - weight / 1000
    return round(1000 * (1 - doubt))


def highest(readings: Iterable[Reading]) -> dict[str, int]:
    """Each category's highest score over several views of one text."""
    found: dict[str, int] = {}
    for reading in readings:
        for category, score in reading.scores.items():
            found[category] = max(score, found.get(category, 0))
    return found


def worth_reading(views: Sequence[str]) -> list[str]:
    """The first view, and those that bring one more of a word some table knows: no other can score higher."""
    worth, seen = [views[0]], Counter(WORD.findall(views[0]))
    for view in views[1:]:
        words = Counter(WORD.findall(view))
        if any(_may_matter(word) for word in words - seen):
            worth.append(view)
        seen |= words
    return worth


def _may_matter(word: str) -> bool:
    return word[0].isdigit() or word in _AGE_WORDS or not word.isascii() or _LEXICON.knows(word)
