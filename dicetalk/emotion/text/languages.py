"""Emotion words of German, French, Spanish, Chinese and Japanese: the table beside :mod:`dicetalk.emotion.text.words`.

Each language maps words of its own to a description in English, which that module reads: ``"angry 0.5"`` for a word of
half the strength of anger. Chinese words stand in both scripts. To add a word, put it under its meaning; to add a
language, add a :class:`Language` to :data:`LANGUAGES`. Accents and case need not be given by whoever writes a tag.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


def _german(word: str) -> list[str]:
    """Adjective endings; umlauts may be written out, as ``froehlich``."""
    written = word.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    stems = {form.removesuffix("e") for form in (word, written)} | {word, written}
    return [stem + ending for stem in stems for ending in ("", "e", "er", "es", "en", "em")]


def _french(word: str) -> list[str]:
    """Feminine, plural and adverb."""
    if word.endswith("eux"):
        feminine = word[:-1] + "se"
    elif word.endswith("if"):
        feminine = word[:-1] + "ve"
    else:
        feminine = word if word.endswith("e") else word + "e"
    plural = word if word.endswith(("s", "x")) else word + "s"
    return [word, plural, feminine, feminine + "s", feminine + "ment"]


def _spanish(word: str) -> list[str]:
    """Feminine, plural and adverb."""
    feminine = word[:-1] + "a" if word.endswith("o") else word
    plural = "es" if word[-1] not in "aeiouáéíóú" else "s"
    spelled = [form[:-1] + "c" if form.endswith("z") and plural == "es" else form for form in (word, feminine)]
    return [word, feminine, *(form + plural for form in spelled), feminine + "mente"]


def _chinese(word: str) -> list[str]:
    return [word]


def _japanese(word: str) -> list[str]:
    """Forms of adjectives that end in い; of others only the word itself."""
    endings = ("い", "く", "くて", "かった", "そう", "げ", "さ", "み", "がって", "がる")
    return [word] + ([word[:-1] + ending for ending in endings] if word.endswith(("しい", "怖い", "こわい")) else [])


@dataclass(frozen=True)
class Language:
    """Words of one language.

    Args:
        words: by meaning, with spaces between; those of more than one word have ``_`` for their spaces.
        degrees: what may stand before a word, by factor, likewise.
        degrees_after: what may stand after it, likewise.
        joints: words for "and" and "but", likewise.
        particles: what may follow a word and changes nothing.
        forms: makes the inflected forms of a word.
        spaced: whether the language puts spaces between words.
    """

    words: Mapping[str, str]
    degrees: Mapping[float, str]
    joints: str
    forms: Callable[[str], list[str]]
    degrees_after: Mapping[float, str]
    particles: str = ""
    spaced: bool = True


LANGUAGES: dict[str, Language] = {
    "de": Language(
        words={
            "neutral": "neutral ruhig gelassen ernst sachlich",
            "happy": "glücklich froh fröhlich freudig heiter freude glück",
            "happy 0.4": "zufrieden",
            "happy 0.5": "erleichtert erfreut",
            "happy 0.7": "lächelnd",
            "excited": "aufgeregt begeistert",
            "sad": "traurig betrübt trauer traurigkeit",
            "sad 0.55": "enttäuscht",
            "sad 0.6": "niedergeschlagen unglücklich",
            "sad 1.4": "verzweifelt",
            "angry": "wütend zornig böse wut zorn ärger",
            "angry 0.5": "genervt verärgert gereizt",
            "furious": "rasend",
            "surprised": "überrascht erstaunt verblüfft überraschung erstaunen",
            "shocked": "schockiert",
            "fear": "ängstlich verängstigt furchtsam angst furcht erschrocken",
            "fear 0.5": "nervös besorgt",
            "disgusted": "angeekelt angewidert ekel abscheu",
            "contempt": "verächtlich abfällig verachtung verachtend",
            "contempt 0.6": "spöttisch sarkastisch",
        },
        degrees={
            0.25: "kaum",
            0.4: "leicht",
            0.5: "ein_wenig ein_bisschen etwas",
            0.7: "mäßig",
            0.8: "ziemlich",
            1.25: "wirklich so",
            1.3: "sehr",
            1.4: "zutiefst",
            1.5: "total völlig",
            1.6: "extrem äußerst",
        },
        degrees_after={},
        joints="und aber",
        forms=_german,
    ),
    "fr": Language(
        words={
            "neutral": "neutre calme sérieux",
            "happy": "heureux joyeux joie bonheur gai",
            "happy 0.4": "content",
            "happy 0.5": "soulagé ravi",
            "happy 0.7": "souriant",
            "sad": "triste tristesse",
            "sad 0.55": "déçu",
            "sad 0.6": "malheureux",
            "angry": "en_colère colère fâché",
            "angry 0.5": "agacé énervé irrité",
            "furious": "furieux",
            "surprised": "surpris étonné surprise étonnement",
            "shocked": "choqué",
            "fear": "peur apeuré peureux effrayé craintif crainte",
            "fear 0.5": "nerveux inquiet",
            "terrified": "terrifié",
            "disgusted": "dégoûté dégoût écœuré écoeuré",
            "contempt": "méprisant mépris dédaigneux dédain",
            "contempt 0.6": "sarcastique moqueur",
        },
        degrees={
            0.25: "à_peine",
            0.4: "légèrement",
            0.5: "un_peu",
            0.7: "modérément",
            0.8: "assez plutôt",
            1.25: "vraiment si tellement",
            1.3: "très",
            1.4: "profondément",
            1.5: "totalement complètement",
            1.6: "extrêmement",
        },
        degrees_after={},
        joints="et mais",
        forms=_french,
    ),
    "es": Language(
        words={
            "neutral": "neutro tranquilo serio calmado",
            "happy": "feliz alegre alegría felicidad",
            "happy 0.5": "aliviado contento satisfecho",
            "happy 0.7": "sonriente",
            "sad": "triste tristeza",
            "sad 0.55": "decepcionado",
            "angry": "enojado enfadado enojo enfado ira rabia",
            "angry 0.5": "molesto irritado disgustado",
            "furious": "furioso",
            "surprised": "sorprendido sorpresa asombrado asombro",
            "fear": "miedo asustado temeroso temor",
            "fear 0.5": "nervioso preocupado",
            "terrified": "aterrorizado aterrado",
            "disgusted": "asqueado asco repugnancia",
            "contempt": "despectivo desprecio desdeñoso desdén",
            "contempt 0.6": "sarcástico burlón",
        },
        degrees={
            0.25: "apenas",
            0.4: "ligeramente levemente",
            0.5: "un_poco algo",
            0.7: "moderadamente",
            0.8: "bastante",
            1.25: "realmente tan",
            1.3: "muy",
            1.4: "profundamente",
            1.5: "totalmente completamente",
            1.6: "extremadamente sumamente",
        },
        degrees_after={},
        joints="y e pero",
        forms=_spanish,
    ),
    "zh": Language(
        words={
            "neutral": "中性 平静 平靜 冷静 冷靜 中立 自然 严肃 嚴肅",
            "happy": "开心 開心 高兴 高興 快乐 快樂 喜悦 喜悅 幸福 愉快 欢快 歡快 喜",
            "happy 0.5": "满意 滿意 欣慰",
            "happy 0.7": "微笑",
            "excited": "兴奋 興奮 激动 激動",
            "sad": "悲伤 悲傷 伤心 傷心 难过 難過 悲哀 忧伤 憂傷 哀",
            "sad 0.55": "失望",
            "sad 0.6": "不开心 不開心 不高兴 不高興",
            "angry": "生气 生氣 愤怒 憤怒 气愤 氣憤 恼怒 惱怒 怒",
            "angry 0.5": "烦躁 煩躁 不耐烦 不耐煩 不满 不滿",
            "furious": "暴怒 狂怒",
            "surprised": "惊讶 驚訝 吃惊 吃驚 惊奇 驚奇 意外 惊喜 驚喜",
            "shocked": "震惊 震驚",
            "fear": "害怕 恐惧 恐懼 惧怕 懼怕 惊恐 驚恐 恐慌",
            "fear 0.5": "紧张 緊張 担心 擔心 不安 焦虑 焦慮",
            "disgusted": "厌恶 厭惡 恶心 噁心 反感 嫌恶 嫌惡",
            "contempt": "轻蔑 輕蔑 蔑视 蔑視 鄙视 鄙視 不屑 鄙夷",
            "contempt 0.6": "嘲讽 嘲諷 讽刺 諷刺",
        },
        degrees={
            0.4: "略微 微微 稍微 稍 略",
            0.5: "有点 有點 有点儿 有點兒 有一点 有一點 一点 一點 一点点 一點點 有些",
            0.8: "比较 比較 挺 相当 相當",
            1.25: "真 真的 好",
            1.3: "很 非常 十分",
            1.5: "太 完全",
            1.6: "极其 極其 极度 極度 超级 超級 极 極 特别 特別",
        },
        degrees_after={1.6: "极了 極了 死了", 0.5: "一点 一點"},
        joints="和 与 與 又 且 而 但 但是 而且 也",
        particles="的 地 了 得",
        forms=_chinese,
        spaced=False,
    ),
    "ja": Language(
        words={
            "neutral": "中立 普通 平静 無表情 冷静 真顔 ニュートラル",
            "happy": "嬉しい うれしい 楽しい たのしい 幸せ しあわせ 喜び 喜ぶ 喜んで 喜んでいる 笑顔 ハッピー 幸福",
            "happy 0.5": "安心 満足 ほっとした",
            "happy 0.7": "微笑み 微笑",
            "excited": "興奮",
            "sad": "悲しい かなしい 哀しい 悲しみ 哀しみ 悲嘆",
            "sad 0.55": "がっかり 失望",
            "sad 0.65": "寂しい さびしい",
            "angry": "怒り 怒る 怒って 怒った 怒ってる 怒っている いかり 憤り 腹立たしい",
            "angry 0.5": "いらいら イライラ 苛立ち 苛立つ 不機嫌",
            "furious": "激怒",
            "surprised": "驚き 驚く 驚いて 驚いた 驚いている おどろき びっくり 驚愕",
            "shocked": "ショック 衝撃",
            "fear": "恐れ 怖い こわい 恐怖 恐ろしい 怯え 怯えて 怯えた 怯えている 怖がって 怖がる",
            "fear 0.5": "不安 心配 緊張",
            "disgusted": "嫌悪 嫌悪感 不快 嫌 うんざり",
            "contempt": "軽蔑 侮蔑 見下し 見下す 見下した 軽蔑的",
            "contempt 0.6": "皮肉 嘲笑",
        },
        degrees={
            0.25: "ほんの少し",
            0.4: "わずかに 僅かに",
            0.5: "少し すこし ちょっと やや 少々 ちょっぴり",
            0.8: "かなり まあまあ",
            1.25: "本当に ほんとうに",
            1.3: "とても すごく 凄く 大変 非常に めっちゃ たいへん",
            1.5: "完全に すっかり",
            1.6: "極めて 極度に 超",
        },
        degrees_after={},
        joints="と けど でも しかし だが",
        particles="な に の だ です で",
        forms=_japanese,
        spaced=False,
    ),
}
"""By code of the language."""
