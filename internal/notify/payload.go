package notify

import (
	"html"
	"strings"
)

// payloads make the messages, by type of provider.
func payloads() map[string]func(Config, Alert) any {
	return map[string]func(Config, Alert) any{
		"slack": func(c Config, a Alert) any {
			return slackMessage(c, a, colors{"good", "warning", "danger"}, slackText)
		},
		"discord": func(c Config, a Alert) any {
			return slackMessage(c, a, colors{"good", "warning", "danger"}, asIs)
		},
		"rocket": func(c Config, a Alert) any {
			return slackMessage(c, a, colors{"#0076D7", "#FFA500", "#FF0000"}, asIs)
		},
		"msteams": teamsMessage,
		"gchat":   chatMessage,
	}
}

// message is the title and the text, of which either may be missing.
func (a Alert) message() string {
	return strings.TrimSpace(a.Title + "\n" + a.Text)
}

// about names the release as Flagger does.
func (a Alert) about() string { return a.Release + "." + a.Namespace }

// fields are all named values, the link among them.
func (a Alert) fields() []Field {
	if a.Link == "" {
		return a.Fields
	}
	return append(a.Fields[:len(a.Fields):len(a.Fields)], Field{"Link", a.Link})
}

// colors are a chat system's for the severities.
type colors struct{ info, warn, err string }

func (c colors) of(s Severity) string {
	switch s {
	case Info:
		return c.info
	case Warn:
		return c.warn
	case Error:
		return c.err
	}
	return c.info
}

// slack is the message of a legacy webhook with one attachment, which Discord
// and Rocket.Chat understand as well.
// (https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments)
type slack struct {
	Channel     string            `json:"channel"`
	Username    string            `json:"username"`
	IconURL     string            `json:"icon_url"`
	IconEmoji   string            `json:"icon_emoji"`
	Attachments []slackAttachment `json:"attachments"`
}

type slackAttachment struct {
	Color      string       `json:"color"`
	AuthorName string       `json:"author_name"`
	Text       string       `json:"text"`
	MarkdownIn []string     `json:"mrkdwn_in"`
	Fields     []slackField `json:"fields"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

func slackMessage(c Config, a Alert, colors colors, escape func(string) string) any {
	attachment := slackAttachment{
		Color:      colors.of(a.Severity),
		AuthorName: a.about(),
		Text:       escape(a.message()),
		MarkdownIn: []string{"text"},
		Fields:     []slackField{},
	}
	for _, f := range a.fields() {
		attachment.Fields = append(attachment.Fields, slackField{f.Name, escape(f.Value), false})
	}
	return slack{Channel: c.Channel, Username: c.Username, IconEmoji: ":rocket:", Attachments: []slackAttachment{attachment}}
}

// slackText escapes what begins links and mentions in Slack's texts.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func asIs(s string) string { return s }

// teams is a legacy message card.
// (https://learn.microsoft.com/en-us/outlook/actionable-messages/message-card-reference)
type teams struct {
	Type       string         `json:"@type"`
	Context    string         `json:"@context"`
	ThemeColor string         `json:"themeColor"`
	Summary    string         `json:"summary"`
	Sections   []teamsSection `json:"sections"`
}

type teamsSection struct {
	ActivityTitle    string      `json:"activityTitle"`
	ActivitySubtitle string      `json:"activitySubtitle"`
	Facts            []teamsFact `json:"facts"`
}

type teamsFact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func teamsMessage(_ Config, a Alert) any {
	section := teamsSection{ActivityTitle: a.message(), ActivitySubtitle: a.about(), Facts: []teamsFact{}}
	for _, f := range a.fields() {
		section.Facts = append(section.Facts, teamsFact(f))
	}
	return teams{
		Type:       "MessageCard",
		Context:    "http://schema.org/extensions",
		ThemeColor: colors{"0076D7", "FFA500", "FF0000"}.of(a.Severity),
		Summary:    a.about(),
		Sections:   []teamsSection{section},
	}
}

// chat is a message of legacy cards; its texts are simple HTML.
// (https://developers.google.com/workspace/chat/api/reference/rest/v1/cards-v1)
type chat struct {
	Cards []chatCard `json:"cards"`
}

type chatCard struct {
	Header   chatHeader    `json:"header"`
	Sections []chatSection `json:"sections"`
}

type chatHeader struct {
	Title    string `json:"title"`
	Subtitle string `json:"subtitle"`
}

type chatSection struct {
	Widgets []chatWidget `json:"widgets"`
}

type chatWidget struct {
	TextParagraph chatText `json:"textParagraph"`
}

type chatText struct {
	Text string `json:"text"`
}

func chatMessage(_ Config, a Alert) any {
	strong := func(s string) string {
		return "<font color=#848484><strong>" + strings.ReplaceAll(html.EscapeString(s), "\n", "<br>") + "</strong></font>"
	}
	section := func(text string) chatSection {
		return chatSection{[]chatWidget{{chatText{text}}}}
	}
	sections := []chatSection{section(strong(a.message()))}
	for _, f := range a.fields() {
		sections = append(sections, section(html.EscapeString(f.Name)+"<br>"+strong(f.Value)))
	}
	return chat{[]chatCard{{chatHeader{"Serin", a.about()}, sections}}}
}
