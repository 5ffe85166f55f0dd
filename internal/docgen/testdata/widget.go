// Package v1 has one of everything that docgen knows.
//
// +groupName=example.org
package v1

// Widget turns "<this>" into that.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=wd,categories=all
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Why, in words",type=string,JSONPath=`.status.why`,priority=1
type Widget struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WidgetSpec   `json:"spec"`
	Status WidgetStatus `json:"status,omitempty"`
}

// WidgetList is a list of Widget objects and has no page.
//
// +kubebuilder:object:root=true
type WidgetList struct {
	Items []Widget `json:"items"`
}

// WidgetSpec is asked for.
type WidgetSpec struct {
	// Needed, in a comment
	// of two lines.
	Name string `json:"name"`

	// Says more.
	//
	// In two paragraphs.
	// +kubebuilder:default="fast"
	// +kubebuilder:validation:Enum=fast;good
	// +optional
	Mode string `json:"mode"`

	// +kubebuilder:default={1,2}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=9
	// +kubebuilder:validation:items:Minimum=0
	// +kubebuilder:validation:XValidation:rule="self.all(x, x > 0)",message="numbers, such as [1, 2]"
	Sizes []int32 `json:"sizes,omitempty"`

	// +kubebuilder:validation:Pattern=`^(a|b)$`
	// +kubebuilder:validation:MinLength=1
	Letter string `json:"letter,omitempty"`

	// Parts by name, and again.
	Parts []Part          `json:"parts,omitempty"`
	Spare *Part           `json:"spare,omitempty"`
	Wait  metav1.Duration `json:"wait,omitempty"`

	// Free text.
	Notes map[string]string `json:"notes,omitempty"`

	hidden string
	Secret string `json:"-"`
}

// Part is in two places and described once.
type Part struct {
	// +kubebuilder:validation:Maximum=10
	Count int64 `json:"count"`
}

// WidgetStatus was seen; nobody has to write it.
type WidgetStatus struct {
	Phase string `json:"phase"`
}
